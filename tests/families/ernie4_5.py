# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import Ernie4_5Config, Ernie4_5ForCausalLM


def older(t):
    """Names and fused matrices of the checkpoints before transformers had the class."""
    for k in [k for k in t if ".q_proj." in k or ".gate_proj." in k]:
        dtype, shape = t[k]
        for own, all_of, fused in (("q_proj", ("q_proj", "k_proj", "v_proj"), "qkv_proj"),
                                   ("gate_proj", ("gate_proj", "up_proj"), "up_gate_proj")):
            if ".%s." % own in k:
                rows = sum(t.pop(k.replace(own, p))[1][0] for p in all_of)
                t[k.replace(own, fused)] = (dtype, [rows, shape[1]])
    for k in list(t):
        t[k.replace("model.", "ernie.", 1)] = t.pop(k)


def cases(r):
    kv, head = r.choice([1, 2, 4]), r.choice([16, 32])
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 96]), intermediate_size=r.choice([96, 160]),
             num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=kv, bos_token_id=BOS, eos_token_id=EOS,
             head_dim=head)
    m = Ernie4_5ForCausalLM

    def apart(state):
        out = {}
        for k, v in state.items():
            k = k.replace("ernie.", "model.", 1)
            parts = [("qkv_proj", ("q_proj", "k_proj", "v_proj"), [4 * head, kv * head, kv * head]),
                     ("up_gate_proj", ("gate_proj", "up_proj"), [v.shape[0] // 2] * 2)]
            for fused, names, rows in parts:
                if fused in k:
                    out.update({k.replace(fused, n): x.contiguous() for n, x in zip(names, v.split(rows))})
                    break
            else:
                out[k] = v
        return out
    yield Case("ERNIE-4.5-0.3B-PT", Ernie4_5Config(**s), m, tokenizer="spm", edit=old_rope(500000.0))
    yield Case("ernie-biased", Ernie4_5Config(**s, use_bias=True, tie_word_embeddings=False), m, dtype="f16",
               tokenizer="spm", edit=old_rope(10000.0))
    yield Case("ernie-before", Ernie4_5Config(**s, tie_word_embeddings=False), m, dtype="f32", tokenizer="spm",
               tensors=older, back=apart, mlx_back=apart, logits="transformers' class does not read such a checkpoint",
               mlx="mlx-lm reads only today's names", edit=lambda c: c.update(architectures=["Ernie4_5_ForCausalLM"]))
