# shellcheck shell=bash
# Where images are kept: below target/, and not among those of this machine. Where a file system takes no overlay,
# STORAGE_DRIVER=vfs does, at a full copy for each step.
store() {
    buildah --root "$PWD/target/images/storage" --runroot "$PWD/target/images/run" --storage-driver "${STORAGE_DRIVER:-overlay}" "$@"
}
