"""The verbs of serving: start a server, change what it serves, ask it; through the running server or, without one,
recorded for the next start."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from modelworks.control.asking import open_named
from modelworks.control.rows import SAMPLE, rows_of_samples, rows_of_texts
from modelworks.control.serve_settings import serve_settings, shown
from modelworks.control.served import package_place, packages_to_serve
from modelworks.control.workspace import Workspace
from modelworks.core.errors import ModelworksError, NotFound, UsageError

if TYPE_CHECKING:
    from modelworks.production.results import LineResult, OrderResult
    from modelworks.serving.client import Client
    from modelworks.serving.deployments import Deployments
    from modelworks.serving.endpoints import Endpoint
    from modelworks.serving.journal import Journal
    from modelworks.serving.running import RunningServer
    from modelworks.serving.settings import ServeSettings

T = TypeVar("T")


class Serving:
    """What an installation can do with served models.

    Args:
        workspace: The installation.
        url: A server elsewhere; the one of this installation when empty.
    """

    def __init__(self, workspace: Workspace, *, url: str = "") -> None:
        self._workspace = workspace
        self._url = url or os.environ.get("MODELWORKS_URL", "")

    # Starting

    def settings(
        self, models: Sequence[str] = (), **options: Any
    ) -> tuple[ServeSettings, dict[str, dict[str, Any]]]:
        """Return the settings of a server and how they are shown, each with its source.

        Args:
            models: Names (``name@2`` for a version), package folders, ``.mwpkg`` files or folders of them; every
                released model that has no endpoint yet when empty.
            options: Fields of ``ServeSettings``, and ``grpc``.

        Raises:
            NotFound: There is no such model, or nothing to serve.
            UsageError: An option cannot be used.
        """
        workspace = self._workspace
        settings, sources = serve_settings(
            workspace.home,
            tuple(packages_to_serve(workspace, models)),
            workspace.settings.serving,
            os.environ,
            options,
            workspace.settings.sources.get("serving", "modelworks.yaml"),
        )
        asked = "the caller" if models else "released models that were never served"
        return settings, shown(settings, {**sources, "packages": asked, "home": "the installation"})

    def serve(
        self,
        settings: ServeSettings,
        told: Callable[[dict[str, Any]], None] | None = None,
        *,
        ray: str = "",
        replicas: int = 2,
    ) -> int:
        """Serve in the foreground until SIGTERM or SIGINT; returns the exit status.

        Args:
            settings: See ``settings``.
            told: Called once the server takes requests.
            ray: ``local`` or the address of a Ray cluster to serve on; this machine's own processes when empty.
            replicas: Processes that answer on Ray.

        Raises:
            ModelworksError: The server cannot start; the error says why and what to do.
        """
        from modelworks.packaging.keys import SigningKey

        SigningKey.load_or_create(self._workspace.keys)
        if ray:
            from modelworks.serving import ray_application

            address = "" if ray == "local" else ray
            return ray_application.main(settings, told, replicas=replicas, address=address)
        from modelworks.serving.foreground import main

        return main(settings, told)

    # Changing

    def deploy(
        self,
        model: str,
        *,
        endpoint: str = "",
        version: str = "",
        canary: float | None = None,
        shadow: bool = False,
        sticky: bool = True,
        change_signature: bool = False,
        actor: str = "mw",
    ) -> dict[str, Any]:
        """Prove a package and let it answer: everything, a canary's share, or as a shadow.

        Args:
            model: Name of a released model, package folder or ``.mwpkg`` file.
            endpoint: Name it is served under; its own when empty.
            version: Released version; the newest when empty.
            canary: Share of the traffic in (0, 1) it gets first.
            shadow: Whether it only gets copies of the traffic.
            sticky: Whether requests of one key always meet the same version.
            change_signature: Whether it may take or give other tensors than the version that answers.
            actor: Who asks, for the record.

        Returns:
            The endpoint's new state, with ``deployed`` (the version's number) and ``at`` (where it takes effect).

        Raises:
            TrustError: The package does not hold, or answered otherwise than it did when it was made.
            UsageError: The server is elsewhere.
        """
        from modelworks.packaging.package import TrustPolicy
        from modelworks.serving.packages import package_source
        from modelworks.serving.staging import stage

        if self._url:
            raise UsageError(
                "A package is handed over on the machine that serves it.",
                code="MW1331",
                hint="run mw deploy there, or copy the package there and restart mw serve PACKAGE",
            )
        named = f"{model}@{version}" if version else model
        package = open_named(self._workspace, named)
        trust = TrustPolicy.of_folder(self._workspace.keys)
        place = package_place(self._workspace, named)
        name = endpoint or package.manifest.name
        source = stage(place, self._workspace.home / "serving", trust)
        found = self.running()
        if found is not None:
            body = {
                "digest": source.digest,
                "canary": canary,
                "shadow": shadow,
                "sticky": sticky,
                "change_signature": change_signature,
            }
            return self._placed(
                self._ask(lambda client: client.endpoint(name, "deploy", **body)), source.digest
            )
        staged = package_source(Path(source.place), trust)
        state = self._offline(
            lambda deployments: deployments.deploy(
                staged,
                endpoint=name,
                actor=actor,
                canary=canary,
                shadow=shadow,
                sticky=sticky,
                change_signature=change_signature,
            )
        )
        return self._placed(state.to_json(), source.digest)

    def deploy_released(self, result: OrderResult) -> OrderResult:
        """Deploy the released lines of an order that ask for it; a failure is told, the verdict stands.

        A package that was deployed before is left where people put it since, removed included.
        """
        lines = []
        for line in result.lines:
            if line.deploy and line.path:
                line = replace(line, deployed=self._deploy_once(line, f"order {result.name}"))
            lines.append(line)
        return replace(result, lines=tuple(lines))

    def _deploy_once(self, line: LineResult, actor: str) -> dict[str, Any]:
        acts = self._journal().history(line.task)
        try:
            if not any(act.verb == "deploy" and act.detail["digest"] == line.package for act in acts):
                state = self.deploy(line.path, endpoint=line.task, actor=actor)
            elif acts[-1].state is not None:
                state = self._placed(acts[-1].state.to_json(), line.package)
            else:
                return {}
        except ModelworksError as error:
            return {"error": str(error)}
        return {"endpoint": line.task, "version": state["deployed"], "at": state["at"]}

    def _placed(self, state: dict[str, Any], digest: str) -> dict[str, Any]:
        found = self.running()
        (number,) = [item["number"] for item in state["versions"] if item["digest"] == digest]
        return {**state, "deployed": number, "at": found.url if found else "the next mw serve"}

    def promote(self, name: str, version: str) -> dict[str, Any]:
        """Let a version answer everything, once it is loaded."""
        return self._act(name, "promote", version=version)

    def canary(self, name: str, version: str, share: float, *, sticky: bool = True) -> dict[str, Any]:
        """Give a version a share of the traffic; 0 ends the canary."""
        return self._act(name, "canary", version=version, share=share, sticky=sticky)

    def shadow(self, name: str, version: str | None) -> dict[str, Any]:
        """Mirror the traffic to a version; ``None`` ends it."""
        return self._act(name, "shadow", version=version)

    def rollback(self, name: str) -> dict[str, Any]:
        """End the canary, or return to the champion before this one; at once."""
        return self._act(name, "rollback")

    def configure(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Change settings of an endpoint; ``None`` restores a default."""
        return self._act(name, "configure", **settings)

    def remove(self, name: str) -> dict[str, Any]:
        """Stop serving a name; what is under way is answered."""
        self._act(name, "remove")
        return {"removed": name}

    def load(self, name: str) -> dict[str, Any]:
        """Load the version that answers now; lifts a quarantine or an unload."""
        self._ask(lambda client: client.call("POST", f"/v2/repository/models/{name}/load"))
        return {"loaded": name}

    def unload(self, name: str) -> dict[str, Any]:
        """Drop a model from memory; it takes no requests until it is loaded again."""
        self._ask(lambda client: client.call("POST", f"/v2/repository/models/{name}/unload"))
        return {"unloaded": name}

    def _act(self, name: str, verb: str, **body: Any) -> dict[str, Any]:
        if self._url or self.running() is not None:
            found: dict[str, Any] = self._ask(lambda client: client.endpoint(name, verb, **body))
            return found
        acts: dict[str, Callable[[Deployments], Awaitable[Endpoint | None]]] = {
            "promote": lambda it: it.promote(name, body["version"], actor="mw"),
            "canary": lambda it: it.canary(
                name, body["version"], body["share"], actor="mw", sticky=body["sticky"]
            ),
            "shadow": lambda it: it.shadow(name, body["version"], actor="mw"),
            "rollback": lambda it: it.rollback(name, actor="mw"),
            "configure": lambda it: it.configure(name, body, actor="mw"),
            "remove": lambda it: it.remove(name, actor="mw"),
        }
        state = self._offline(acts[verb])
        return state.to_json() if state is not None else {}

    def _offline(self, act: Callable[[Deployments], Awaitable[T]]) -> T:
        """Do an act without a running server: proven and recorded now, in effect at the next start."""
        from modelworks.serving.foreground import new_loop
        from modelworks.serving.server import Server

        settings, _ = serve_settings(
            self._workspace.home, (), self._workspace.settings.serving, os.environ, {"grpc": False}
        )

        async def body() -> T:
            server = Server(settings, asyncio.get_running_loop())
            try:
                server.deployments.restore()
                return await act(server.deployments)
            finally:
                await server.stop()

        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(body())

    # Looking

    def endpoints(self) -> list[dict[str, Any]]:
        """Return every endpoint: champion, canary, shadow, versions, and how the running server sees it."""
        if self._url or self.running() is not None:
            state = self.status()
            return [_row(endpoint) for endpoint in state["endpoints"]]
        return [
            {
                "name": name,
                "champion": state.champion,
                "canary": state.canary.to_json() if state.canary else None,
                "shadow": state.shadow,
                "versions": len(state.versions),
                "state": "not served now",
                "requests": 0,
            }
            for name, state in sorted(self._journal().endpoints.items())
        ]

    def endpoint(self, name: str) -> dict[str, Any]:
        """Return the recorded state of an endpoint and the acts that led to it."""
        if self._url:
            found: dict[str, Any] = self._ask(lambda client: client.call("GET", f"/v1/endpoints/{name}"))
            return found
        from modelworks.serving.endpoints import find

        journal = self._journal()
        state = find(journal.endpoints, name)
        acts = [
            {key: value for key, value in act.to_json().items() if key not in {"state", "endpoint"}}
            for act in journal.history(name)
        ]
        return {"endpoint": state.to_json(), "acts": acts}

    def status(self) -> dict[str, Any]:
        """Return the whole state of the server."""
        return self._ask(lambda client: client.status())

    def top_lines(self, before: dict[str, Any], after: dict[str, Any]) -> list[Any]:
        """Return one line per version for two readings of ``status``, the busiest first."""
        from modelworks.serving.top import top_lines

        return list(top_lines(before, after))

    def running(self) -> RunningServer | None:
        """Return the server that runs from this installation."""
        from modelworks.serving.running import find_running

        return find_running(self._workspace.home / "serving")

    # Asking

    def infer(
        self,
        model: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        version: str = "",
        key: str | None = None,
        explain: bool = False,
        texts: bool = False,
    ) -> list[dict[str, Any]]:
        """Ask the server; returns one plain object per row.

        Args:
            model: Name of an endpoint.
            rows: Column name -> value.
            version: Which version; the one that answers when empty.
            key: Names the subject.
            explain: Whether each answer has its ``explanation``.
            texts: The rows came from a file that knows texts only: number columns are read as numbers, columns
                the model does not read are left out.
        """

        def question(client: Client) -> list[dict[str, Any]]:
            named = any(SAMPLE in row for row in rows)
            inputs = client.model(model)["inputs"] if texts or named else ()
            sent = rows_of_texts(rows, inputs) if texts else rows_of_samples(rows, inputs) if named else rows
            return client.predict(model, sent, version=version, key=key, explain=explain)

        return self._ask(question)

    def outcome(
        self, model: str, key: str, value: Any, *, row: int = 0, correction: bool = False
    ) -> dict[str, Any]:
        """Report what really happened to the subject of an earlier request, or correct an answer."""
        self._ask(lambda client: client.outcome(model, key, value, row=row, correction=correction))
        return {"endpoint": model, "key": key, "value": value}

    def _ask(self, question: Callable[[Client], T]) -> T:
        from modelworks.serving.access import read_local_token
        from modelworks.serving.client import Client

        found = None if self._url else self.running()
        if not self._url and found is None:
            raise NotFound("No server runs from this installation.", code="MW4222", hint="mw serve")
        keys = self._workspace.keys
        token = os.environ.get("MODELWORKS_TOKEN") or read_local_token(keys)
        certificate = Path(found.certificate) if found is not None and found.certificate else None
        url = found.url if found is not None else self._url
        try:
            with Client(url, token=token, certificate=certificate) as client:
                return question(client)
        except OSError as error:
            raise NotFound(
                f"No server answers at {url}: {error.strerror or error}.", code="MW4223", hint="mw serve"
            ) from error

    # Tokens

    def token_add(
        self, name: str, *, role: str = "infer", endpoints: Sequence[str] = ("*",), rate: float | None = None
    ) -> dict[str, Any]:
        """Make a token; it is shown once and kept only as a digest."""
        from modelworks.serving.access import add_token

        token = add_token(
            self._workspace.keys, name=name, role=role, endpoints=tuple(endpoints) or ("*",), rate=rate
        )
        return {"name": name, "role": role, "token": token}

    def token_list(self) -> list[dict[str, Any]]:
        """Return the tokens, without their digests."""
        from modelworks.serving.access import list_tokens

        return [
            {key: value for key, value in entry.items() if key != "sha256"}
            for entry in list_tokens(self._workspace.keys)
        ]

    def token_remove(self, name: str) -> dict[str, Any]:
        """Revoke a token; running servers refuse it within a second."""
        from modelworks.serving.access import remove_token

        remove_token(self._workspace.keys, name)
        return {"removed": name}

    def _journal(self) -> Journal:
        from modelworks.serving.journal import Journal

        path = self._workspace.home / "serving" / "deployments.jsonl"
        return Journal(path if path.exists() else None)


def _row(endpoint: dict[str, Any]) -> dict[str, Any]:
    champion = next(item for item in endpoint["versions"] if item["number"] == endpoint["champion"])
    return {
        "name": endpoint["name"],
        "champion": endpoint["champion"],
        "canary": endpoint["canary"],
        "shadow": endpoint["shadow"],
        "versions": len(endpoint["versions"]),
        "state": champion["state"],
        "requests": sum(item["requests"] for item in endpoint["versions"]),
    }
