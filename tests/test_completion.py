"""What a shell completes: commands, arguments, names of registries, and paths everywhere else."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from voxward.cli import main


def script(shell, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", shell])
    assert ended.value.code == 0
    return capsys.readouterr().out


def completed(script, line):
    """What bash offers at the end of a line."""
    words = line.split(" ")
    code = f"""{script}
COMP_WORDS=({" ".join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}
_shtab_voxward 2>/dev/null
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_arguments_names_and_paths(capsys, tmp_path, monkeypatch):
    found = script("bash", capsys)
    assert completed(found, "voxward at") == ["attack"]
    assert "--protocol" in completed(found, "voxward attack --pro")
    assert completed(found, "voxward harden run --method p") == ["pgd"]
    (tmp_path / "my-run").mkdir()
    monkeypatch.chdir(tmp_path)
    assert completed(found, "voxward evaluate my-") == ["my-run"]


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_get_a_script(shell, capsys):
    assert "attack" in script(shell, capsys)
