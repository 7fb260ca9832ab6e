#!/usr/bin/env bash
# Builds targets of the Dockerfile without an engine: by buildah, as root. Base images are asked of no registry: Debian's is
# made of the packages of the same release, Rust's of that and of this machine's toolchain.
#
#   k8s/tests/images/build.sh CONTEXT ids ids-kafka ids-spark
set -euo pipefail

context=$1 && shift
dockerfile=k8s/images/Dockerfile
work=target/images
mkdir -p $work
# shellcheck source=k8s/tests/images/store.sh
. k8s/tests/images/store.sh

base() { sed -n "s/^FROM \($1:[^ ]*\) AS .*/\1/p" $dockerfile | sort -u; }
there() { store images --quiet "$1" > /dev/null 2>&1; }

debian=$(base debian) rust=$(base rust)
if ! there "$debian"; then
    echo "== $debian, of the packages of its release"
    rm -rf $work/debian
    debootstrap --variant=minbase bookworm $work/debian > $work/debootstrap.log || { tail -5 $work/debootstrap.log >&2; exit 1; }
    # What makes it slim: no documentation, and none of the packages to come.
    rm -rf $work/debian/var/{lib/apt/lists,cache/apt}/* $work/debian/usr/share/{doc,man,info,locale}/*
    printf 'path-exclude %s\n' /usr/share/{doc,man,info,locale}/\* > $work/debian/etc/dpkg/dpkg.cfg.d/slim
    # Whom this machine trusts, or no registry would be reached through its proxy.
    cp -r --parents /usr/local/share/ca-certificates $work/debian
    [ ! -f /etc/pip.conf ] || cp /etc/pip.conf $work/debian/etc
    container=$(store from scratch)
    store add --quiet "$container" $work/debian /
    store config --cmd bash --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    store commit --quiet --rm "$container" "$debian"
    rm -rf $work/debian
fi
if ! there "$rust"; then
    echo "== $rust, of $(rustc --version)"
    rm -rf $work/rust && mkdir -p $work/rust
    toolchain=$(rustc --print sysroot)
    cp -r "$toolchain"/bin "$toolchain"/lib $work/rust
    container=$(store from --pull-never "$debian")
    store add --quiet "$container" $work/rust /usr/local
    store commit --quiet --rm "$container" "$rust"
    rm -rf $work/rust
fi

for target; do
    echo "== $target"
    store bud --isolation chroot --pull-never --layers --target "$target" --tag "$target" --file $dockerfile "$context"
done
