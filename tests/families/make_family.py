#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/family/<family>.json from tests/families/<family>.py.

usage: LBRX_CONVERT_HF_TO_GGUF=.../convert_hf_to_gguf.py make_family.py FAMILY... | all | tokenizers
The golden files were made with llama-cpp-python 0.3.36's converter, transformers 5.24, mlx-lm 0.32.2.
"""
import json
import random
import sys
import tempfile

sys.dont_write_bytecode = True
import kit

CHAT = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"


def tokenizers():
    """A byte-level BPE of 300 tokens, and a SentencePiece model of 360 pieces."""
    import sentencepiece
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    text = (kit.HERE.parents[1] / "LICENSE").read_text().splitlines()
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(text, trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    kit.GOLDEN.mkdir(exist_ok=True)
    t.save(str(kit.GOLDEN / "tokenizer.json"), pretty=False)
    common = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "chat_template": CHAT}
    (kit.GOLDEN / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": False, **common}, indent=1) + "\n")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_prefix=str(kit.GOLDEN / "tokenizer"), vocab_size=360,
        model_type="bpe", byte_fallback=True, pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="<pad>",
        normalization_rule_name="identity", minloglevel=2)
    (kit.GOLDEN / "tokenizer.vocab").unlink()
    (kit.GOLDEN / "tokenizer_config_spm.json").write_text(json.dumps(
        {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "legacy": False,
         "unk_token": "<unk>", **common}, indent=1) + "\n")


def main():
    for name in kit.families() if sys.argv[1:] == ["all"] else sys.argv[1:]:
        if name == "tokenizers":
            tokenizers()
            continue
        with tempfile.TemporaryDirectory(prefix="lbrx-family-") as work:
            cases = [kit.golden(c, work) for c in kit.family(name).cases(random.Random(0))]
        with open(kit.GOLDEN / (name + ".json"), "w") as f:
            f.write("{\"family\": %s, \"cases\": [\n" % json.dumps(name))
            f.write(",\n".join(json.dumps(c, ensure_ascii=True) for c in cases))
            f.write("\n]}\n")
        print("%s: %d cases" % (name, len(cases)))


main()
