"""Measured collectives and whole layers, and the list of all comparisons of GPU kernels."""

from __future__ import annotations

import numpy as np

from archsim.models.gpu import eager_s, evaluate_collective, evaluate_gemm, gpu_device
from archsim.validate.gpu_data import (
    Measured,
    attention_sets,
    gemm_sets,
    latent_sets,
    moe_sets,
    read_csv,
    read_parquet,
)
from archsim.validate.references import references

#: Libraries by the names of their folders.
LIBRARIES = {"trtllm": "TensorRT-LLM", "vllm": "vLLM", "sglang": "SGLang"}


def collective_sets(device: str) -> list[Measured]:
    """NCCL and custom all-reduce of aiconfigurator and Vidur, DeepEP of aiconfigurator."""
    gpu, sets = gpu_device(device), []
    folder = references("gpu") / "aiconfigurator" / f"{device}_sxm" / "comm"
    for path in sorted(folder.glob("nccl/*/nccl_perf.parquet")):
        t = read_parquet(path)
        size = t["message_size"] * np.where(t["nccl_dtype"] == "half", 2.0, 1.0)
        for name in np.unique(t["op_name"]).tolist():
            rows = np.flatnonzero(t["op_name"] == name)
            whole = t["nccl_dtype"][rows] == "int8"  # the switch does not add these up
            sets.append(_collective(
                gpu, name, "aiconfigurator, NCCL", 0.12 if name == "all_reduce" else None,
                t["num_gpus"][rows], size[rows], t["latency"][rows] * 1e-3, True,
                np.where(whole & (name == "all_reduce"), "ring", "auto")))  # fmt: skip
    # what CUDA graphs replay; started eagerly the host's time would be part of it
    for library, backend in (("trtllm", ""), ("vllm", "vllm_graph"), ("sglang", "sglang_graph")):
        for path in sorted(folder.glob(f"{library}/*/custom_allreduce_perf.parquet")):
            t = read_parquet(path)
            size, fitted = t["message_size"] * 2.0, library == "trtllm"
            # larger ones go through NCCL
            rows = np.flatnonzero((size <= 1e6) & (t.get("backend", np.array([""])) == backend))
            sets.append(_collective(
                gpu, "all_reduce", f"aiconfigurator, {LIBRARIES[library]} kernel",
                0.12 if fitted else None, t["num_gpus"][rows], size[rows],
                t["latency"][rows] * 1e-3, fitted, np.full(len(rows), "custom")))  # fmt: skip
    for path in sorted(folder.glob("sglang/*/wideep_deepep_ll_perf.parquet")):
        t = read_parquet(path)
        # fp8 with one fp32 scale for 128 elements out, bf16 back
        for name, width in (("dispatch", 1 + 4 / 128), ("combine", 2.0)):
            size = t["num_token"] * t["num_topk"] * t["hidden_size"] * width
            sets.append(_collective(
                gpu, name, "aiconfigurator, DeepEP", None, np.full(len(size), 8), size,
                t[f"{name}_avg_t_us"] * 1e-6, True, np.full(len(size), "auto")))  # fmt: skip
    t = read_csv(references("gpu") / "vidur" / "network" / f"{device}_dgx" / "all_reduce.csv")
    rows = np.flatnonzero(t["num_workers"] == t["devices_per_node"])
    sets.append(_collective(
        gpu, "all_reduce", "Vidur", None, t["num_workers"][rows], t["size"][rows],
        t["time_stats.all_reduce.median"][rows] * 1e-3, False, np.full(len(rows), "auto"),
    ))  # fmt: skip
    return sets


def _collective(gpu, name, source, target, members, size, latency, fitted, algorithms):
    kind = "all_to_all" if name == "alltoall" else name

    def predict(c, rows):
        out = np.empty(len(rows))
        for algorithm in np.unique(algorithms).tolist():
            chosen = np.flatnonzero(algorithms[rows] == algorithm)
            r = rows[chosen]
            out[chosen] = evaluate_collective(
                gpu, kind, members[r], size[r], algorithm=algorithm, constants=c
            ).latency_s
        return out

    code = np.round(np.log2(np.maximum(size, 1))).astype(int) * 7 + members.astype(int) * 3
    return Measured(
        kind.replace("_", "-"), gpu.name, "collective", source, target,
        {"members": members, "bytes": size}, latency, code if fitted else None, predict, fitted,
    )  # fmt: skip


def layer_sets() -> list[Measured]:
    """Layers of Llama models measured by Vidur, and products by LLMCompass: nothing fitted."""
    sets = []
    root = references("gpu")
    for device in ("a100", "h100"):
        for path in sorted((root / "vidur" / device).glob("*/*/mlp.csv")):
            t = read_csv(path)
            gated = 2.0 if "True" in t["use_gated_mlp"].astype(str) else 1.0
            dim = t["n_embd"] / t["n_head"]
            tp, width = t["num_tensor_parallel_workers"], t["n_expanded_embd"]
            for name, n, k in (
                ("attn_pre_proj", (t["n_head"] + 2 * t["n_kv_head"]) * dim / tp, t["n_embd"]),
                ("attn_post_proj", t["n_embd"], t["n_embd"] / tp),
                ("mlp_up_proj", gated * width / tp, t["n_embd"]),
                ("mlp_down_proj", t["n_embd"], width / tp),
            ):
                measured = t[f"time_stats.{name}.median"] * 1e-3
                sets.append(_products(
                    f"{name}, {path.parent.name}", device, "Vidur", t["num_tokens"], n, k, measured,
                    "fp16"))  # fmt: skip
    lines = (root / "llmcompass/figure5/ab/matmul_A100.csv").read_text().splitlines()
    cells = [line.split(",")[:4] for line in lines if line.strip()]
    rows = np.array([[float(x.strip(" ms")) for x in row] for row in cells])
    m, n, k, milliseconds = rows.T
    sets.append(_products("GEMM", "a100", "LLMCompass", m, n, k, milliseconds * 1e-3, "fp16"))
    return sets


def _products(name, device, source, m, n, k, latency, dtype) -> Measured:
    gpu = gpu_device(device)

    def predict(c, rows):
        cost = evaluate_gemm(gpu, m[rows], n[rows], k[rows], dtype, constants=c)
        return cost.latency_s + (eager_s("matmul") if source == "LLMCompass" else 0.0)

    return Measured(
        name, device, "gemm", source, None, {"m": m, "n": n, "k": k}, latency,
        None, predict, False,
    )  # fmt: skip


def all_sets(devices: tuple[str, ...] = ("a100", "h100")) -> list[Measured]:
    """Every comparison with measured kernels."""
    sets: list[Measured] = []
    for build in (gemm_sets, attention_sets, latent_sets, moe_sets, collective_sets):
        for device in devices:
            sets += build(device)
    return sets + layer_sets()
