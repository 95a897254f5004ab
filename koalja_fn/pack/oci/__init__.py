"""Images without a container engine: names, layers, registries and folders of the OCI image layout.

Knows nothing of buildpacks, tasks or terminals.

    base = load_base(target("127.0.0.1:5000/base:1"), Platform.here(), client) -> BaseImage
    extract_rootfs(base, client, cache_folder) -> Path       unpacked once for each digest, below cache_folder
    layer_from_tree(entries, out_dir, order=...) -> Layer    the byte format of the buildpacks lifecycle
    compose(base, layers, changes=..., env=..., history=..., labels=...) -> Image
    publish(image, target("127.0.0.1:5000/mine"), client) -> Published(reference, digest, sent, spared)
    labels_of(target, client, platform) -> dict[str, str] | None
"""
