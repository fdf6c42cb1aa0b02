"""Elasticsearch and OpenSearch: the real servers, out of their Maven artifacts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import ClassVar

from tests.services import host
from tests.services.base import DATA, Service, ServiceError

_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"


class SearchServer(Service):
    """What the two have in common; they part ways in names, in the Java they need and in security."""

    artifact: ClassVar[str]  # group:artifact, without version
    version: ClassVar[str]
    megabytes: ClassVar[int]
    java: ClassVar[int]
    heap: ClassVar[str]
    prefix: ClassVar[str]  # of environment variables
    settings: ClassVar[dict[str, object]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @staticmethod
    def answers(url: str) -> bool:
        health = f"{url}/_cluster/health?wait_for_status=yellow&timeout=1s"
        try:
            with urllib.request.urlopen(health, timeout=3) as response:
                return json.load(response)["timed_out"] is False
        except (OSError, ValueError, KeyError):
            return False

    # ------------------------------------------------------------------------------------ getting it

    @classmethod
    def home(cls) -> Path:
        return host.run_dir() / f"{cls.name}-{cls.version}"

    @classmethod
    def prepare(cls) -> None:
        host.java_home(cls.java, f"{cls.prefix}_JAVA_HOME")
        with host.locked(cls.name):
            if not cls.home().exists():
                cls._unpack(cls._download())

    @classmethod
    def _download(cls) -> Path:
        folder = host.cache_dir() / "downloads"
        target = folder / f"{cls.name}-{cls.version}.zip"
        if target.exists():
            return target
        maven = host.command("mvn", "maven")
        host.say(f"downloading {cls.name} {cls.version} ({cls.megabytes} MB) …")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as part:  # the name appears when it is whole
            done = subprocess.run(
                [
                    maven, "--quiet", "--batch-mode", _PLUGIN,
                    f"-Dartifact={cls.artifact}:{cls.version}:zip", f"-DoutputDirectory={part}",
                ],
                capture_output=True, text=True, check=False, cwd=part,
            )  # fmt: skip
            if done.returncode:
                reason = "\n".join((done.stdout + done.stderr).strip().splitlines()[:6])
                raise ServiceError(f"{cls.name} {cls.version} could not be downloaded:\n{reason}")
            (Path(part) / target.name).replace(target)
        return target

    @classmethod
    def _unpack(cls, archive: Path) -> None:
        host.say(f"unpacking {cls.name} {cls.version} …")
        with tempfile.TemporaryDirectory(dir=host.run_dir()) as part:
            with zipfile.ZipFile(archive) as source:
                for item in source.infolist():
                    path = Path(source.extract(item, part))
                    # zipfile drops modes, and a strict umask would hide the files from the server's user
                    executable = path.is_dir() or path.parent.name == "bin"
                    path.chmod(0o755 if executable else 0o644)
            Path(part, f"{cls.name}-{cls.version}").replace(cls.home())

    # ------------------------------------------------------------------------------------ running it

    def launch(self) -> None:
        self.prepare()
        user = host.service_user()
        self.folder = host.new_instance(self.name)
        self._configure(self.folder)
        if user is not None:
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, user.pw_uid, user.pw_gid)
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            f"{self.prefix}_JAVA_HOME": str(host.java_home(self.java, f"{self.prefix}_JAVA_HOME")),
            f"{self.prefix}_JAVA_OPTS": f"-Xms{self.heap} -Xmx{self.heap}",
            f"{self.prefix}_PATH_CONF": str(self.folder / "config"),
            f"{self.prefix}_TMPDIR": str(self.folder / "tmp"),
        }
        self._spawn(
            [str(self.home() / "bin" / self.name)],
            env=env,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
        )

    def _configure(self, folder: Path) -> None:
        shutil.copytree(self.home() / "config", folder / "config")
        for name in ("logs", "tmp"):
            (folder / name).mkdir()
        if self.in_memory and (memory := host.folder_in_memory(folder)):
            (folder / DATA).symlink_to(memory)
        else:
            (folder / DATA).mkdir()
        settings: dict[str, object] = {
            "cluster.name": f"kedge-{self.port}",
            "node.name": "kedge",
            "discovery.type": "single-node",
            "network.host": "127.0.0.1",
            "http.port": self.port,
            "transport.port": host.free_port(),
            "path.data": str((folder / DATA).resolve()),
            "path.logs": str(folder / "logs"),
            # A full disk on a developer's machine would turn indices read-only in the midst of a test.
            "cluster.routing.allocation.disk.threshold_enabled": False,
            "cluster.max_shards_per_node": 5000,
            **self.settings,
        }
        lines = [f"{key}: {json.dumps(value)}" for key, value in settings.items()]
        (folder / "config" / f"{self.name}.yml").write_text("\n".join(lines) + "\n")
        # The server's own folder is not writable to it: no garbage-collection log there, nor dumps.
        options = folder / "config" / "jvm.options"
        kept = [
            line
            for line in options.read_text().splitlines()
            if not re.search(r"-Xlog:gc|-Xloggc|HeapDump|ErrorFile|GCLogFile|PrintGC|PrintTenuring", line)
        ]
        options.write_text("\n".join([*kept, f"-XX:ErrorFile={folder}/logs/hs_err_pid%p.log", ""]))


class Elasticsearch(SearchServer):
    name = "elasticsearch"
    default_port = 9200
    artifact = "org.elasticsearch.distribution.integ-test-zip:elasticsearch"
    version = "8.19.21"
    megabytes = 107
    java = 17
    heap = "1g"
    prefix = "ES"
    settings: ClassVar[dict[str, object]] = {"xpack.security.enabled": False}


class OpenSearch(SearchServer):
    name = "opensearch"
    default_port = 9201
    artifact = "org.opensearch.distribution.integ-test-zip:opensearch"
    version = "3.4.0"
    megabytes = 133
    java = 21
    heap = "1g"
    prefix = "OPENSEARCH"
