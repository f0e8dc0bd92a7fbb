"""What notebook 00 says of the machine."""

from utils import machine

import pytest


def test_every_finding_of_a_good_machine_is_good(monkeypatch):
    monkeypatch.delenv("SIGLIP_CHECKPOINT", raising=False)
    monkeypatch.delenv("VLM_CHECKPOINT", raising=False)
    monkeypatch.setattr(machine.psutil, "cpu_percent", lambda interval: 5.0)
    found = list(machine.findings())
    assert all(good for good, _, _ in found)
    assert [text for _, text, _ in found][-2:] == [
        "the model models/siglip-mini-patch16-224",
        "the model models/paligemma-mini-224",
    ]


@pytest.mark.parametrize(
    ("module", "name", "value", "says"),
    [
        ("psutil", "virtual_memory", type("", (), {"available": 1e9}), "1.0 GB of memory free: close other programs"),
        ("shutil", "disk_usage", type("", (), {"free": 1e8}), "0.1 GB of disk free: make room"),
        ("psutil", "cpu_percent", 99.0, "99 % busy: everything works, but takes longer"),
    ],
)
def test_what_is_wrong_is_one_line_with_a_way_out(monkeypatch, capsys, module, name, value, says):
    monkeypatch.setattr(getattr(machine, module), name, lambda *_, **__: value)
    machine.show_machine()
    [line] = [line for line in capsys.readouterr().out.splitlines() if says in line]
    assert line.startswith("LOOK ")


def test_a_model_that_is_not_there_is_one_line_with_a_way_out(monkeypatch, capsys):
    monkeypatch.setenv("SIGLIP_CHECKPOINT", "models/nowhere")
    machine.show_machine()
    assert "LOOK  no model for SIGLIP_CHECKPOINT: no model found" in capsys.readouterr().out
