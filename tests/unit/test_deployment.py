"""The DaemonSet and the Dockerfile: valid, and with what the exporter needs and no more."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.unit.test_service import settings
from tests.unit.typed import COMMANDS, CONTEXT

DEPLOY = Path(__file__).parents[2] / "deploy"
TEXT = (DEPLOY / "kubernetes/daemonset.yaml").read_text()
OBJECTS = list(yaml.safe_load_all(TEXT))
DOCKERFILE = (DEPLOY / "container/Dockerfile").read_text()
RELEASES = ("1.28", kubernetes_validate.latest_version())
(SET,) = [one for one in OBJECTS if one["kind"] == "DaemonSet"]
POD = SET["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("one", OBJECTS, ids=lambda one: one["kind"])
def test_each_object_is_valid_in_every_word(one, release):
    kubernetes_validate.validate(one, release, strict=True)


def test_a_word_that_is_misspelt_is_found():
    wrong = {**SET, "spec": {**SET["spec"], "temlate": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, RELEASES[-1], strict=True)


def test_it_has_the_capabilities_of_the_unit_and_each_says_why():
    security = CONTAINER["securityContext"]
    (unit,) = settings("export")["CapabilityBoundingSet"]
    assert security["capabilities"]["drop"] == ["ALL"]
    assert {f"CAP_{name}" for name in security["capabilities"]["add"]} == set(unit.split())
    assert all(re.search(rf"^ +- {name} # \S", TEXT, re.M) for name in security["capabilities"]["add"])
    assert not security["privileged"] and not security["allowPrivilegeEscalation"] and security["readOnlyRootFilesystem"]


def test_it_reaches_no_more_of_the_node_than_it_says_why():
    assert POD["hostPID"] and "hostNetwork" not in POD and "hostIPC" not in POD
    assert not POD["automountServiceAccountToken"]
    mounts, volumes = CONTAINER["volumeMounts"], POD["volumes"]
    assert all(mount["readOnly"] for mount in mounts)
    assert {volume["hostPath"]["path"] for volume in volumes} == {"/run/netns"}
    assert {mount["name"] for mount in mounts} == {volume["name"] for volume in volumes}
    assert POD["tolerations"] == [{"operator": "Exists"}]


def test_it_and_the_image_run_the_exporter_on_the_port_that_is_probed():
    (cmd,) = re.findall(r"^CMD (.*)$", DOCKERFILE, re.M)
    (exposed,) = re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.M)
    assert yaml.safe_load(cmd) == CONTAINER["args"]
    command, *words = CONTAINER["args"]
    place = COMMANDS[command].make_context(command, words, parent=CONTEXT).params["place"]
    (port,) = CONTAINER["ports"]
    assert place.port == port["containerPort"] == int(exposed)
    probes = [CONTAINER[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert all(probe == {"path": "/", "port": port["name"]} for probe in probes)


def test_limits_are_those_of_the_unit():
    limits = CONTAINER["resources"]["limits"]
    assert limits == {"cpu": "500m", "memory": "512Mi"}
    assert (settings("export")["CPUQuota"], settings("export")["MemoryMax"]) == (["50%"], ["512M"])


def test_no_compiler_is_in_the_image():
    lines = (DEPLOY.parent / "packages.apt").read_text().splitlines()
    packages = {line.split()[0] for line in lines if not line.startswith("#") and "image" in line.split()[1:]}
    assert "python3-numpy" in packages and not [name for name in packages if re.search("bpfcc|llvm|clang|gcc", name)]
    (awk,) = re.findall(r"\$\(awk '(.*?)' /tmp/packages.apt\)", DOCKERFILE)
    assert shlex.split(awk) and "image" in awk
