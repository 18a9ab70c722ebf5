#!/bin/sh
# Build the container image, and lay its bill of materials and its list of licences beside it.
#
#   deployment/image/build.sh [--tag NAME] [--builder docker|podman|buildah] [--base IMAGE] [--output FOLDER]
#                             [--pip-conf FILE] [--ca FILE] [-- ARGUMENTS OF THE BUILDER]
#
# Without --builder it takes the first that works. --pip-conf and --ca are for a package index of one's own; they are
# given to the build as secrets and are in no layer. SOURCE_DATE_EPOCH is that of the commit unless it is set.
set -eu
cd "$(dirname "$0")/../.."

fail() {
    echo "build.sh: $*" >&2
    exit 2
}

works() {
    case $1 in
    docker) docker info >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

first_builder() {
    for each in docker podman buildah; do
        if works "$each"; then
            echo "$each"
            return
        fi
    done
    fail "there is no docker that answers, no podman and no buildah here: install one, or name it with --builder"
}

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain 2>/dev/null)" ] || revision="$revision-changed"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

tag=localhost/onetake:$version
builder=
base=
output=.onetake/image
pip_conf=
ca=
while [ $# -gt 0 ]; do
    [ "$1" = -- ] && shift && break
    case $1 in
    --tag | --builder | --base | --output | --pip-conf | --ca) [ $# -ge 2 ] || fail "$1 needs a value" ;;
    *) fail "$1 is no option of this script; what is meant for the builder comes after --" ;;
    esac
    case $1 in
    --tag) tag=$2 ;;
    --builder) builder=$2 ;;
    --base) base=$2 ;;
    --output) output=$2 ;;
    --pip-conf) pip_conf=$2 ;;
    --ca) ca=$2 ;;
    esac
    shift 2
done
builder=${builder:-$(first_builder)}
works "$builder" || fail "$builder does not work here"

set -- "$@" --file deployment/image/Containerfile --tag "$tag" \
    --build-arg "VERSION=$version" --build-arg "REVISION=$revision" --build-arg "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH"
[ -z "$base" ] || set -- "$@" --build-arg "PYTHON_IMAGE=$base"
[ -z "$pip_conf" ] || set -- "$@" --secret "id=pip_conf,src=$pip_conf"
[ -z "$ca" ] || set -- "$@" --secret "id=ca,src=$ca"

IGNORED=deployment/image/Containerfile.dockerignore # which BuildKit finds by its name
case $builder in
docker) DOCKER_BUILDKIT=1 docker build "$@" . ;;
podman) podman build --format docker --timestamp "$SOURCE_DATE_EPOCH" --ignorefile "$IGNORED" "$@" . ;;
buildah) buildah build --format docker --timestamp "$SOURCE_DATE_EPOCH" --ignorefile "$IGNORED" "$@" . ;;
*) fail "$builder is no builder that this script knows" ;;
esac

# What is inside is laid beside it, for those who keep or compare it without the image.
mkdir -p "$output"
case $builder in
buildah)
    container=$(buildah from "$tag")
    trap 'buildah rm "$container" >/dev/null' EXIT
    cp "$(buildah mount "$container")/usr/share/onetake/sbom.cdx.json" \
        "$(buildah mount "$container")/usr/share/onetake/licences.tsv" "$output/"
    ;;
*)
    container=$("$builder" create "$tag")
    trap '"$builder" rm "$container" >/dev/null' EXIT
    "$builder" cp "$container:/usr/share/onetake/sbom.cdx.json" "$output/"
    "$builder" cp "$container:/usr/share/onetake/licences.tsv" "$output/"
    ;;
esac
echo "built $tag, revision $revision, with $builder; $output/sbom.cdx.json and $output/licences.tsv say what is in it" >&2
