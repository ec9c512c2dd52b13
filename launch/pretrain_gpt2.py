#!/usr/bin/env python3
"""Pre-trains a small GPT-2 on text files, for configurations that need one (configs/gpt2_dfa.ini).

    dfmoa init-model --family gpt2 --hidden 192 --layers 6 --heads 6 --max-positions 256 init/
    launch/pretrain_gpt2.py init/ models/gpt2_small --text FILE... --minutes 4 --data data/

The model is as good as minutes allow: it has learned to spell the text, and no more. --data also
writes data/text.jsonl (nine tenths) and data/text_heldout.jsonl, lines {"text"} of the same text.
It needs torch and transformers (requirements-dev.txt).
"""

import argparse
import json
import math
import pathlib
import sys
import time

PIECE = 2000  # characters of a line of text.jsonl


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("init", help="folder that dfmoa init-model wrote")
    parser.add_argument("out", help="folder of the trained model")
    parser.add_argument("--text", nargs="+", required=True, help="text files in UTF-8")
    parser.add_argument("--minutes", type=float, default=4, help="of training (default 4)")
    parser.add_argument("--batch", type=int, default=8, help="rows of a step (default 8)")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of a row (default 128)")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--data", help="folder for text.jsonl and text_heldout.jsonl")
    return parser.parse_args()


def read_pieces(paths):
    text = "".join(pathlib.Path(path).read_text(encoding="utf-8") for path in paths)
    return [text[at:at + PIECE] for at in range(0, len(text), PIECE)]


def split(pieces):
    """Every tenth piece is held out."""
    return ([p for i, p in enumerate(pieces) if i % 10 != 9],
            [p for i, p in enumerate(pieces) if i % 10 == 9])


def write_lines(path, pieces):
    with open(path, "w", encoding="utf-8") as out:
        for piece in pieces:
            out.write(json.dumps({"text": piece}) + "\n")


def encode(folder, pieces):
    from tokenizers import Tokenizer
    import torch
    tokenizer = Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json"))
    ids = [i for encoded in tokenizer.encode_batch(pieces) for i in encoded.ids]
    return torch.tensor(ids, dtype=torch.long)


def loss_on(model, ids, starts, tokens):
    import torch
    rows = torch.stack([ids[s:s + tokens] for s in starts])
    return model(input_ids=rows, labels=rows).loss


def train(args, pieces, held_out):
    import torch
    from transformers import GPT2LMHeadModel
    torch.manual_seed(1)
    model = GPT2LMHeadModel.from_pretrained(args.init)
    ids, other = encode(args.init, pieces), encode(args.init, held_out)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.rate, betas=(0.9, 0.99))
    begin, seconds, step, told = time.time(), 60 * args.minutes, 0, 0
    while (share := (time.time() - begin) / seconds) < 1:
        for group in optimizer.param_groups:  # warm-up over 2 % of the time, then a cosine to 10 %
            group["lr"] = args.rate * min(share / 0.02, 0.55 + 0.45 * math.cos(math.pi * share))
        starts = torch.randint(len(ids) - args.tokens, (args.batch,)).tolist()
        loss = loss_on(model, ids, starts, args.tokens)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if time.time() - told > 10:
            told = time.time()
            print(f"step {step}  ce {loss.item():.3f}  {100 * share:.0f} %", file=sys.stderr)
    with torch.no_grad():
        rows = [range(0, len(other) - args.tokens, args.tokens)[i:i + args.batch]
                for i in range(0, len(other) // args.tokens, args.batch)]
        rows = [starts for starts in rows if len(starts) == args.batch]
        ce = sum(loss_on(model, other, starts, args.tokens).item() for starts in rows) / len(rows)
    print(f"{step} steps; held-out cross-entropy {ce:.3f} nats a token", file=sys.stderr)
    model.save_pretrained(args.out)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        source = pathlib.Path(args.init) / name
        if source.exists():
            (pathlib.Path(args.out) / name).write_bytes(source.read_bytes())


def main():
    args = arguments()
    pieces, held_out = split(read_pieces(args.text))
    if not held_out:
        sys.exit(f"pretrain_gpt2: the text has {len(pieces)} pieces of {PIECE} characters, "
                 "expected at least ten")
    if args.data:
        pathlib.Path(args.data).mkdir(parents=True, exist_ok=True)
        write_lines(pathlib.Path(args.data) / "text.jsonl", pieces)
        write_lines(pathlib.Path(args.data) / "text_heldout.jsonl", held_out)
    train(args, pieces, held_out)


if __name__ == "__main__":
    main()
