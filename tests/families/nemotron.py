# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import NemotronConfig, NemotronForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 128]), intermediate_size=r.choice([96, 160]),
             num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=r.choice([1, 2, 4]),
             bos_token_id=BOS, eos_token_id=EOS)
    yield Case("Minitron-4B-Base", NemotronConfig(**s, head_dim=s["hidden_size"] // 4), NemotronForCausalLM,
               tokenizer="spm", edit=old_rope(10000.0, partial_rotary_factor=r.choice([0.5, 0.25])))
    yield Case("biased", NemotronConfig(**s, attention_bias=True, mlp_bias=True, rope_parameters={
        "rope_type": "linear", "factor": 2.0, "rope_theta": 20000.0, "partial_rotary_factor": 0.5}),
               NemotronForCausalLM, tokenizer="spm", dtype="f32",
               mlx_adds=("partial_rotary_factor", "rope_theta", "rope_scaling"))
    yield Case("Nemotron-Mini-4B-Instruct", NemotronConfig(**s), NemotronForCausalLM, tokenizer="spm", dtype="f16",
               lossy=("norm.weight",), mlx_adds=("rope_theta",))
