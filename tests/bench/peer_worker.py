#!/usr/bin/env python3
"""One peer of one bar, in a process of its own: measures when told to by a line on stdin.

    WARM_UP SAMPLES  ->  {"seconds": [..], "peak_bytes": n, "extra_bytes": n}
"""

import argparse
import json
import sys
import time

import torch

TOKENS = 1024
EXPERTS, RANK = 8, 8


def status_bytes(key):
    with open("/proc/self/status", encoding="utf-8") as status:
        for line in status:
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no line {key}")


def measure(work, warm_up, samples):
    """The same protocol as `dfmoa bench`: peak and rise of resident memory over all repetitions."""
    with open("/proc/self/clear_refs", "w", encoding="utf-8") as clear:
        clear.write("5")
    before = status_bytes("VmRSS")
    for _ in range(warm_up):
        work()
    seconds = []
    for _ in range(samples):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    peak = status_bytes("VmHWM")
    return {"seconds": seconds, "peak_bytes": peak, "extra_bytes": max(0, peak - before)}


class ExpertLoop(torch.nn.Module):
    """A linear with LoRA experts, one after the other: all of them, or the top 2 of a token."""

    def __init__(self, base, top_k=0):
        super().__init__()
        self.base = base
        self.top_k = top_k
        self.router = torch.nn.Linear(base.in_features, EXPERTS, bias=False)
        self.a = torch.nn.ModuleList(
            torch.nn.Linear(base.in_features, RANK, bias=False) for _ in range(EXPERTS))
        self.b = torch.nn.ModuleList(
            torch.nn.Linear(RANK, base.out_features, bias=False) for _ in range(EXPERTS))

    def forward(self, x):
        y = self.base(x)
        gate = torch.softmax(self.router(x), -1)
        if self.top_k == 0:
            for e in range(EXPERTS):
                y = y + 2.0 * gate[..., e:e + 1] * self.b[e](self.a[e](x))
            return y
        flat, out = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
        value, index = gate.reshape(-1, EXPERTS).topk(self.top_k, -1)
        value = value / value.sum(-1, keepdim=True)
        for e in range(EXPERTS):
            token, place = torch.where(index == e)
            part = 2.0 * value[token, place, None] * self.b[e](self.a[e](flat[token]))
            out = out.index_add(0, token, part)
        return out.view_as(y)


def frozen_linear(width):
    linear = torch.nn.Linear(width, width, bias=False)
    linear.weight.requires_grad_(False)
    return linear


def forward_backward(module, width):
    x = torch.randn(TOKENS, width, requires_grad=True)
    dy = torch.randn(TOKENS, width)
    leaves = [x, *(p for p in module.parameters() if p.requires_grad)]
    return lambda: torch.autograd.grad([module(x)], leaves, [dy])


def linear_loop(width, top_k):
    return forward_backward(ExpertLoop(frozen_linear(width), top_k), width)


def qlora_linear():
    import bitsandbytes
    import peft

    base = bitsandbytes.nn.Linear4bit(2048, 2048, bias=False, compute_dtype=torch.float32,
                                      quant_type="nf4")
    base.weight = bitsandbytes.nn.Params4bit(torch.randn(2048, 2048) * 0.02, requires_grad=False,
                                             quant_type="nf4")
    holder = torch.nn.Sequential(base.to("cpu"))
    config = peft.LoraConfig(r=16, lora_alpha=16, target_modules=["0"])
    return forward_backward(peft.inject_adapter_in_model(config, holder), 2048)


def dequantise(dtype):
    from bitsandbytes import functional

    codes, state = functional.quantize_4bit(torch.randn(2048, 2048), quant_type="nf4")
    state.dtype = dtype
    return lambda: functional.dequantize_4bit(codes, state)


def quantise():
    from bitsandbytes import functional

    weight = torch.randn(4096, 4096)
    return lambda: functional.quantize_4bit(weight, quant_type="nf4")


def head(vocabulary, width):
    x = torch.randn(2048, width, requires_grad=True)
    weight = torch.randn(vocabulary, width) * 0.02
    target = torch.randint(vocabulary, (2048,))

    def work():
        loss = torch.nn.functional.cross_entropy(x @ weight.t(), target)
        return torch.autograd.grad(loss, x)

    return work


SITES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def load_model(options, kind):
    import peft
    import transformers

    quantised = kind.endswith("_nf4")
    config = None
    if quantised:
        config = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
                                                 bnb_4bit_compute_dtype=torch.float32)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        options.model, dtype=torch.float32, attn_implementation="sdpa", quantization_config=config)
    model.requires_grad_(False)
    model.config.use_cache = False
    if kind.startswith("peft"):
        lora = peft.LoraConfig(r=EXPERTS * RANK, lora_alpha=16, target_modules=list(SITES))
        model = peft.get_peft_model(model, lora)
    elif kind in ("dense_loop", "top2_loop"):
        for name, module in list(model.named_modules()):
            for site in SITES:
                if hasattr(module, site):
                    loop = ExpertLoop(getattr(module, site), 2 if kind == "top2_loop" else 0)
                    setattr(module, site, loop)
    if options.recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    return model.train()


def trained_step(model):
    """Returns step(batch): forward, backward, clipping, AdamW."""
    leaves = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(leaves, lr=2e-4, weight_decay=0) if leaves else None

    def step(batch):
        if optimizer is None:  # frozen: backward to the embedding
            embedded = model.get_input_embeddings()(batch["input_ids"]).requires_grad_()
            loss = model(inputs_embeds=embedded, labels=batch["labels"]).loss
            torch.autograd.grad(loss, embedded)
            return
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(leaves, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def whole_step(options, kind):
    step = trained_step(load_model(options, kind))
    ids = torch.randint(49152, (1, options.tokens))
    return lambda: step({"input_ids": ids, "labels": ids})


def padded_batches(options):
    """Batches of 16 documents in file order, padded, prompts masked, as a padding collator does."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    with open(options.data, encoding="utf-8") as file:
        documents = [json.loads(line)["messages"] for line in file]

    def ids(messages, **more):
        return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True,
                                             **more)["input_ids"]

    pairs = [(ids(d), len(ids(d[:-1], add_generation_prompt=True))) for d in documents]
    for at in range(0, len(pairs) - 15, 16):
        batch = pairs[at:at + 16]
        longest = max(len(tokens) for tokens, _ in batch)
        rows = {"input_ids": [], "attention_mask": [], "labels": []}
        for tokens, prompt in batch:
            missing = longest - len(tokens)
            rows["input_ids"].append(tokens + [0] * missing)
            rows["attention_mask"].append([1] * len(tokens) + [0] * missing)
            rows["labels"].append([-100] * prompt + tokens[prompt:] + [-100] * missing)
        yield {key: torch.tensor(value) for key, value in rows.items()}


class DocumentSteps:
    def __init__(self, options):
        self.step = trained_step(load_model(options, "peft_lora"))
        self.batches = list(padded_batches(options))
        self.next = 0

    def restart(self):
        self.next = 0

    def __call__(self):
        self.step(self.batches[self.next])
        self.next += 1


def make(peer, options):
    name, _, detail = peer.partition(":")
    makers = {
        "dense_loop_linear": lambda: linear_loop(int(detail), 0),
        "top2_loop_linear": lambda: linear_loop(int(detail), 2),
        "qlora_linear": qlora_linear,
        "dequantise": lambda: dequantise(getattr(torch, detail)),
        "quantise": quantise,
        "head": lambda: head(*map(int, detail.split("x"))),
        "step": lambda: whole_step(options, detail),
        "documents": lambda: DocumentSteps(options),
    }
    return makers[name]()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer")
    parser.add_argument("--model")
    parser.add_argument("--data")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--recompute", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    work = make(options.peer, options)
    for line in sys.stdin:
        if hasattr(work, "restart"):
            work.restart()
        print(json.dumps(measure(work, *map(int, line.split()))), flush=True)


if __name__ == "__main__":
    main()
