"""A root, a server's certificate for localhost, and a root that signed nothing, made by openssl."""

import subprocess
from pathlib import Path


class Certificates:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        self.ca, self.cert, self.key, self.other_ca = (folder / name for name in ("ca.pem", "server.pem", "server.key", "other.pem"))
        self._root("ca")
        self._root("other")
        (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n")
        self._openssl("req", "-new", *self._new_key("server"), "-subj", "/CN=localhost", "-out", "server.csr")
        self._openssl(
            *"x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names -out server.pem".split()
        )
        for key in folder.glob("*.key"):
            key.chmod(0o600)

    def both(self) -> Path:
        """The key and the certificate in one file, as ejabberd wants them."""
        path = self._folder / "both.pem"
        path.write_text(self.cert.read_text() + self.key.read_text())
        path.chmod(0o600)
        return path

    def _root(self, name: str) -> None:
        self._openssl("req", "-x509", *self._new_key(name), "-subj", f"/CN={name}", "-days", "30", "-out", f"{name}.pem")

    @staticmethod
    def _new_key(name: str) -> list[str]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"]

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._folder, check=True, capture_output=True)
