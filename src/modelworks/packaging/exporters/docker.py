"""A build context: a Dockerfile that serves the package over the Open Inference Protocol with ``mw serve``."""

from __future__ import annotations

import base64

from modelworks.packaging.package import Package

DOCKERFILE = """\
# Build:  docker build -t {name} .
# Run:    docker run --rm -p 8080:8080 {name}
FROM python:3.11-slim
COPY requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir -r /tmp/requirements.txt && rm /tmp/requirements.txt
RUN useradd --system --uid 10001 --create-home --home-dir /home/modelworks modelworks
ENV MODELWORKS_HOME=/home/modelworks/.modelworks
COPY --chown=10001 trusted/ /home/modelworks/.modelworks/keys/trusted/
COPY --chown=0 --chmod=0444 package/ /package/
USER 10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s CMD \\
  python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/v2/health/ready', timeout=2)"
CMD ["mw", "serve", "/package", "--host", "0.0.0.0", "--port", "8080"]
"""


def docker_files(package: Package) -> dict[str, bytes]:
    """Return path -> bytes of the build context."""
    files = {f"package/{name}": data for name, data in package.files.items()}
    version = package.manifest.code.get("version")
    files["Dockerfile"] = DOCKERFILE.format(name=package.manifest.name.lower()).encode()
    files["requirements.txt"] = f"modelworks[serve]=={version}\n".encode()
    if package.signed_by:
        files[f"trusted/{package.signed_by}.pub"] = base64.b64encode(package.public_key) + b"\n"
    return files
