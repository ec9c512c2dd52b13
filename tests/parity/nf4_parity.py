"""NF4 against the bitsandbytes wheel on the CPU: equal bytes, equal values.

usage: nf4_parity.py NF4_TOOL
Prints "N passed, N failed, N skipped"; exit code 1 on any failure.
"""

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile

# Compiling its fallbacks for every shape would take most of the time.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

import numpy as np
import torch
import bitsandbytes.functional as bnb

MAP_SHA256 = "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c"
BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)


def tensors():
    """(name, fp32 tensor): odd shapes, odd counts, short tails, zeros, tiny and huge values."""
    generator = torch.Generator().manual_seed(20)

    def normal(*shape):
        return torch.randn(*shape, generator=generator) * 0.02

    for shape in ((1,), (63,), (64,), (65,), (7, 9), (33, 257), (576, 192), (1000, 511)):
        yield "normal" + "x".join(map(str, shape)), normal(*shape)
    spread = normal(300, 700)
    yield "decades", spread * torch.logspace(-6, 3, 300).unsqueeze(1)
    zeros = normal(40, 128)
    zeros[3:9] = 0
    yield "zero_blocks", zeros
    yield "all_zero", torch.zeros(5, 333)
    yield "equal", torch.full((1024, 64), 0.5)
    yield "tiny", normal(9, 100) * 1e-38
    yield "bf16", normal(257, 129).to(torch.bfloat16).float()


def run_tool(tool, folder, values, block, level, offset):
    source = folder / "in.f32"
    values.numpy().tofile(source)
    subprocess.run([tool, source, str(block), folder, offset], check=True,
                   env={**os.environ, "DFMOA_CPU": level})
    kinds = {"codes": np.uint8, "absmax": np.float32, "f32": np.float32, "bf16": np.uint16,
             "q": np.uint8, "absmax2": np.float32, "offset": np.float32,
             "double_f32": np.float32, "map": np.float32}
    return {name: np.fromfile(folder / name, kind) for name, kind in kinds.items()}


def bits(array):
    """Values as integers, so that -0 and 0 differ and NaN equals itself."""
    return np.ascontiguousarray(array).view({1: np.uint8, 2: np.uint16, 4: np.uint32}[
        array.dtype.itemsize])


def oracle(values, block):
    """Everything bitsandbytes makes of one tensor."""
    packed, state = bnb.quantize_4bit(values, blocksize=block, quant_type="nf4")
    nested, nested_state = bnb.quantize_4bit(values, blocksize=block, quant_type="nf4",
                                             compress_statistics=True)
    # As one row: its CPU kernel starts every row at a new block, which is wrong (by up to the
    # weights' own size) where a block crosses rows.
    state.shape = nested_state.shape = torch.Size([values.numel()])
    theirs = {
        "codes": packed.reshape(-1).numpy(),
        "absmax": state.absmax.numpy(),
        "f32": bnb.dequantize_4bit(packed, state).reshape(-1).numpy(),
        "q": nested_state.absmax.numpy(),
        "absmax2": nested_state.state2.absmax.numpy(),
        "offset": nested_state.offset.reshape(1).numpy(),
        "double_f32": bnb.dequantize_4bit(nested, nested_state).reshape(-1).numpy(),
        "map": nested_state.state2.code.numpy(),
    }
    state.dtype = torch.bfloat16
    theirs["bf16"] = bnb.dequantize_4bit(packed, state).reshape(-1).view(torch.uint16).numpy()
    return theirs


def own_offset_is_close(own, given):
    """The mean up to its last bit; with it, q up to one step of the map."""
    if abs(int(bits(own["offset"])[0]) - int(bits(given["offset"])[0])) > 1:
        return False
    return int(np.abs(own["q"].astype(int) - given["q"].astype(int)).max(initial=0)) <= 1


def machine_levels(tool, folder):
    np.zeros(1, np.float32).tofile(folder / "in.f32")
    for level in ("reference", "avx2", "avx512"):
        probe = subprocess.run([tool, folder / "in.f32", "64", folder, "own"],
                               env={**os.environ, "DFMOA_CPU": level}, capture_output=True)
        if probe.returncode == 0:
            yield level
        else:
            print(f"{level}: skipped, this machine has none")


def compare(tool, folder, values, block, levels):
    """One list of differing names per level."""
    theirs = oracle(values, block)
    offset = float(theirs["offset"][0]).hex()
    for level in levels:
        ours = run_tool(tool, folder, values, block, level, offset)
        wrong = [name for name, array in theirs.items()
                 if not np.array_equal(bits(array), bits(ours[name]))]
        if hashlib.sha256(ours["map"].tobytes()).hexdigest() != MAP_SHA256:
            wrong.append("the map's SHA-256")
        if level == "reference":  # the mean has one form
            own = run_tool(tool, folder, values, block, level, "own")
            if not own_offset_is_close(own, ours):
                wrong.append("own offset")
        yield level, wrong


def main():
    tool = pathlib.Path(sys.argv[1])
    passed = failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        levels = list(machine_levels(tool, folder))
        for tensor, values in tensors():
            for block in BLOCKS:
                for level, wrong in compare(tool, folder, values, block, levels):
                    passed += not wrong
                    failed += bool(wrong)
                    if wrong:
                        print(f"{level} {tensor} block {block}: {', '.join(wrong)} differ")
    print(f"{passed} passed, {failed} failed, {3 - len(levels)} skipped")
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
