"""How much memory is free within containers' limits, of both versions of control groups."""

import pytest

from fullrank.data.memory import available_memory


@pytest.mark.parametrize(
    ("groups", "files", "free"),
    [
        ("0::/\n", {}, 8000 * 1024),
        ("0::/\n", {"memory.max": "max", "memory.current": "5"}, 8000 * 1024),
        ("0::/\n", {"memory.max": "5000", "memory.current": "3000", "memory.stat": "inactive_file 400\n"}, 2400),
        (
            "0::/outer/inner\n",
            {
                "outer/memory.max": "5000",
                "outer/memory.current": "4000",
                "outer/memory.stat": "anon 9\n",
                "outer/inner/memory.max": "max",
                "outer/inner/memory.current": "1",
            },
            1000,
        ),
        (
            "9:memory:/docker/x\n3:cpu,cpuacct:/\n",
            {
                "memory/memory.limit_in_bytes": "7000",
                "memory/memory.usage_in_bytes": "1000",
                "memory/memory.stat": "total_inactive_file 500\n",
            },
            6500,
        ),
        ("0::/\n", {"memory.max": "10", "memory.current": "30", "memory.stat": ""}, 0),
    ],
)
def test_the_tightest_limit_counts(tmp_path, groups, files, free):
    for name, text in {
        "proc/meminfo": "MemTotal: 9999 kB\nMemAvailable: 8000 kB\n",
        "proc/self/cgroup": groups,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_memory(tmp_path) == free
