"""The playground: a page on which f0, fb and fu run in the reader's browser, without Python."""
