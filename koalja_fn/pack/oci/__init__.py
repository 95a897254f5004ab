"""Images without a container engine: names, layers, registries and folders of the OCI image layout.

Knows nothing of buildpacks, tasks or terminals. From top to bottom:

    publishing   publish(image, target, client, moved=…) -> Published(reference, digest, sent, spared)
    rootfs       extract_rootfs(base, client, cache_folder) -> Path, unpacked once for each digest
    image        load_base(target, platform, client) -> BaseImage; labels_of(target, client) -> dict | None;
                 mark_of(target, name, client, platform) -> (digest, annotation or label) | None;
                 compose(base, layers, changes=…, env=…, labels=…, history=…) -> Image
    client       RegistryClient(): registries; its place(target) is a repository or a layout
    layer        layer_from_tree(entries, out_dir, order=…) -> Layer, in the lifecycle's byte format
    reference    target("host/repository:tag" or "oci:FOLDER") -> Reference | LayoutTarget

One `RegistryClient` for one command: it keeps connections and tokens, remembers which repository has which
blob, so that what several images share travels once, and may be used by many threads.
"""
