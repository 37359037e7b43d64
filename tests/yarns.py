"""A real YARN for tests: Hadoop's own ResourceManager and NodeManager, processes on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from clusters import end, environment, wait_for
from stores import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "tests" / "cluster" / "yarn.lock"
_DISK = "yarn.nodemanager.disk-health-checker"
_SERVER = "org.apache.hadoop.yarn.server"


@dataclass
class Yarn:
    """The running cluster."""

    folder: Path
    web: int = field(default_factory=free_port)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def conf(self) -> Path:
        """What HADOOP_CONF_DIR names."""
        return self.folder / "conf"

    def configure(self) -> None:
        """Write the files that servers and clients read."""
        ports = {
            f"yarn.resourcemanager.{name}address": f"127.0.0.1:{free_port()}"
            for name in ("", "scheduler.", "resource-tracker.", "admin.")
        }
        ports |= {
            f"yarn.nodemanager.{name}address": f"127.0.0.1:{free_port()}"
            for name in ("", "localizer.", "webapp.", "collector-service.")
        }
        settings = ports | {
            "yarn.resourcemanager.webapp.address": f"127.0.0.1:{self.web}",
            # The usual scheduler wants a file of queues.
            "yarn.resourcemanager.scheduler.class": (
                f"{_SERVER}.resourcemanager.scheduler.fifo.FifoScheduler"
            ),
            "yarn.scheduler.minimum-allocation-mb": "256",
            "yarn.nodemanager.resource.memory-mb": "8192",
            "yarn.nodemanager.resource.cpu-vcores": "4",
            "yarn.nodemanager.local-dirs": str(self.folder / "local"),
            "yarn.nodemanager.log-dirs": str(self.folder / "logs"),
            # A disk that is nearly full would make the node unfit.
            f"{_DISK}.max-disk-utilization-per-disk-percentage": "100",
            # Java asks for far more addresses than it uses.
            "yarn.nodemanager.vmem-check-enabled": "false",
        }
        self.conf.mkdir()
        _write(self.conf / "core-site.xml", {"fs.defaultFS": "file:///"})
        _write(self.conf / "yarn-site.xml", settings)

    def start(self, server: str) -> None:
        """Start a server in a process group of its own."""
        import pyspark

        jars = Path(pyspark.__file__).parent / "jars"
        client = [str(jar) for jar in jars.glob("hadoop-client-*.jar")]
        ours = [str(jar) for jar in (Path(sys.prefix) / "share/lakescore/yarn").glob("*.jar")]
        logging = [
            str(jar) for jar in jars.glob("*.jar") if "slf4j" in jar.name or "log4j" in jar.name
        ]
        name = server.rpartition(".")[2]
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *("java", "-Xmx512m", "-XX:TieredStopAtLevel=1"),
                    *("--add-opens", "java.base/java.lang=ALL-UNNAMED"),
                    *("-cp", os.pathsep.join([str(self.conf), *ours, *client, *logging])),
                    f"{_SERVER}.{server}",
                ],
                env=environment(),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)

    def nodes(self) -> int:
        """Return how many nodes run."""
        address = f"http://127.0.0.1:{self.web}/ws/v1/cluster/metrics"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return int(json.load(answer)["clusterMetrics"]["activeNodes"])
        except OSError:
            return 0

    def ended(self) -> list[int]:
        """Return the exit codes of servers that run no longer."""
        return [code for server in self.started if (code := server.poll()) is not None]

    def stop(self) -> None:
        """End what was started; a node ends its containers with it."""
        end(self.started)


@contextlib.contextmanager
def yarn(folder: Path) -> Iterator[Yarn]:
    """Run a ResourceManager and a NodeManager, whose jar Maven gives."""
    subprocess.run([Path(sys.executable).with_name("lakescore"), "setup", LOCK], check=True)
    cluster = Yarn(folder)
    cluster.configure()
    try:
        cluster.start("resourcemanager.ResourceManager")
        cluster.start("nodemanager.NodeManager")
        wait_for(lambda: cluster.ended() or cluster.nodes(), "YARN's node")
        assert not cluster.ended(), f"see the logs in {folder}"
        yield cluster
    finally:
        cluster.stop()


def _write(path: Path, settings: Mapping[str, str]) -> None:
    root = ET.Element("configuration")
    for name, value in settings.items():
        entry = ET.SubElement(root, "property")
        ET.SubElement(entry, "name").text = name
        ET.SubElement(entry, "value").text = value
    ET.ElementTree(root).write(path)
