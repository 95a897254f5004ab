"""Files that look like keys or passwords by their names: they are nobody's code and never in an image."""

from __future__ import annotations

import re
from fnmatch import translate

_FILES = (
    ".env", ".env.*", "*.env", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.pem", "*.key", "*.p12",
    "*.pfx", "*.jks", "*.keystore", "*.kdbx", ".netrc", "_netrc", ".npmrc", ".pypirc", ".git-credentials",
    ".htpasswd", "credentials.json", "service-account*.json", "kubeconfig", ".vault-token", "*.tfstate",
    "*.tfstate.backup", "*.ppk", ".dockerconfigjson", ".dockercfg", ".pgpass", ".my.cnf",
)  # fmt: skip
_FOLDERS = frozenset({".ssh", ".aws", ".gnupg", ".docker", ".kube", ".azure", ".gcloud"})
_HARMLESS = (".env.example", ".env.sample", ".env.template", ".env.dist", "*.pub")
_SECRET, _NO_SECRET = (re.compile("|".join(map(translate, names))) for names in (_FILES, _HARMLESS))


def is_secret(inside: str) -> bool:
    """Whether a file looks like a key or a password by its path; upper and lower case are one."""
    *folders, name = inside.lower().split("/")
    if not _SECRET.match(name) and _FOLDERS.isdisjoint(folders):
        return False
    return not _NO_SECRET.match(name)
