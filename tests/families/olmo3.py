# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, PAD, VOCAB, Case, old_rope
from transformers import Olmo3Config, Olmo3ForCausalLM

YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64, "beta_fast": 32.0, "beta_slow": 1.0,
        "attention_factor": 1.2079441541679836}


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 96]), intermediate_size=96, num_attention_heads=4,
             num_key_value_heads=r.choice([1, 2, 4]), sliding_window=r.choice([8, 16]), bos_token_id=BOS, eos_token_id=EOS,
             pad_token_id=PAD)
    plain = {"rope_type": "default", "rope_theta": 500000.0}
    yield Case("Olmo-3-7B-Instruct", Olmo3Config(**s, num_hidden_layers=4, max_position_embeddings=512), Olmo3ForCausalLM,
               edit=old_rope(500000, YARN), mlx_logits="mlx-lm does not read attention_factor")
    yield Case("no-list", Olmo3Config(**s, num_hidden_layers=r.choice([4, 5, 8])), Olmo3ForCausalLM, dtype="f16",
               edit=old_rope(500000.0, layer_types=None))
    yield Case("nested", Olmo3Config(**s, num_hidden_layers=3, attention_bias=True, layer_types=[
        "full_attention", "sliding_attention", "sliding_attention"], rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500000.0}, "sliding_attention": plain}),
               Olmo3ForCausalLM, shard="60KB", mlx="the class of mlx-lm asks for rope_theta",
               mlx_adds=("rope_theta", "rope_scaling"))
