"""The DaemonSet and the Dockerfile: valid, and with what the exporter needs and no more."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.unit.test_service import settings
from tests.unit.typed import COMMANDS, CONTEXT
from tests.vm.suite import marked

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
    unit = settings("export")
    assert security["capabilities"]["drop"] == ["ALL"]
    # For memory that may be locked a unit has a setting, and a pod none.
    assert unit["LimitMEMLOCK"] == ["infinity"]
    wanted = {*unit["CapabilityBoundingSet"][0].split(), "CAP_SYS_RESOURCE"}
    assert {f"CAP_{name}" for name in security["capabilities"]["add"]} == wanted
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


def test_the_image_has_the_packages_that_are_marked_for_it_and_no_compiler():
    (script,) = re.findall(r"\$\(awk '(.*?)' /tmp/packages.apt\)", DOCKERFILE)
    listed = subprocess.run(["awk", script, DEPLOY.parent / "packages.apt"], capture_output=True, text=True, check=True).stdout
    assert sorted(listed.split()) == marked("image")
    assert {"python3-numpy", "python3-prometheus-client"} < set(marked("image"))
    assert not [name for name in marked("image") if re.search("bpfcc|llvm|clang|gcc", name)]
