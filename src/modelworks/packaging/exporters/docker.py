"""A build context: a Dockerfile that serves the package over the Open Inference Protocol with ``mw serve``."""

from __future__ import annotations

import base64
import re

from modelworks.core.errors import TrustError
from modelworks.packaging.package import Package

DOCKERFILE = """\
# Build:  docker build -t {image} .
# Keys:   openssl req -x509 -newkey ed25519 -nodes -days 90 -subj /CN=localhost -addext subjectAltName=DNS:localhost \\
#           -keyout tls/tls.key -out tls/tls.crt        (or those of your own authority)
# Run:    docker run --rm --read-only --tmpfs /home/modelworks -p 8080:8080 -v "$PWD/tls:/tls:ro" {image}
# The first lines it prints hold the token; ask it with any Open Inference Protocol v2 client.
FROM python:3.11-slim
COPY requirements.txt /opt/requirements.txt
RUN pip install --no-cache-dir -r /opt/requirements.txt \\
 && useradd --system --uid 10001 --create-home --home-dir /home/modelworks modelworks
COPY --chmod=0444 trusted/ /opt/trusted/
COPY --chmod=0444 package/ /package/
USER 10001
ENV MODELWORKS_HOME=/home/modelworks/.modelworks
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "/opt/healthy.py"]
COPY --chmod=0444 healthy.py /opt/healthy.py
CMD ["sh", "-c", "mw package trust /opt/trusted/{key}.pub && exec mw serve /package --host 0.0.0.0 --port 8080 \\
--tls-cert /tls/tls.crt --tls-key /tls/tls.key"]
"""

HEALTHY = '''\
"""Ask the server in this container whether it is ready; the certificate it was given must be the one it shows."""

import ssl
import urllib.request

context = ssl.create_default_context(cafile="/tls/tls.crt")
context.check_hostname = False
urllib.request.urlopen("https://127.0.0.1:8080/v2/health/ready", timeout=2, context=context)
'''


def docker_files(package: Package) -> dict[str, bytes]:
    """Return path -> bytes of the build context.

    Raises:
        TrustError: Nobody trusted signed the package; the container would refuse it.
    """
    if not package.signed_by:
        raise TrustError(
            "A container opens only signed packages, and no trusted key signed this one.",
            code="MW3107",
            hint="trust its maker first: mw package trust KEY.pub",
        )
    name, version = package.manifest.name, package.manifest.code.get("version")
    extras = "serve" if package.signature.tokenizer is None else "serve,text"
    image = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"
    files = {f"package/{file}": data for file, data in package.files.items()}
    files["Dockerfile"] = DOCKERFILE.format(image=image, key=package.signed_by).encode()
    files["healthy.py"] = HEALTHY.encode()
    files["requirements.txt"] = f"modelworks[{extras}]=={version}\n".encode()
    files[f"trusted/{package.signed_by}.pub"] = base64.b64encode(package.public_key) + b"\n"
    return files
