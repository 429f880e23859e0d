# docker build -t ubt . && docker run --rm -v ubt-runs:/kit/runs ubt
FROM python:3.11-slim

RUN apt-get update \
 && apt-get install --yes --no-install-recommends git make \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home ubt \
 && install --directory --owner=ubt /kit /kit/runs

USER ubt
WORKDIR /kit
ARG TORCH=cpu
ENV TORCH=$TORCH PIP_NO_CACHE_DIR=1

COPY --chown=ubt . .
RUN make setup

CMD ["make", "reproduce"]
