# SPDX-License-Identifier: Apache-2.0
import json

from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import HunYuanDenseV1Config, HunYuanDenseV1ForCausalLM

ALPHA = {"alpha": 1000.0, "beta_fast": 32, "beta_slow": 1, "factor": 1.0, "mscale": 1.0, "mscale_all_dim": 0.0,
         "type": "dynamic"}


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 96]), intermediate_size=r.choice([96, 160]),
             num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=r.choice([1, 2, 4]),
             bos_token_id=BOS, eos_token_id=EOS, head_dim=r.choice([16, 32]))
    m = HunYuanDenseV1ForCausalLM
    long = dict(s, max_position_embeddings=r.choice([32768, 262144]))
    yield Case("Hunyuan-4B-Instruct", HunYuanDenseV1Config(**long, tie_word_embeddings=True), m,
               edit=old_rope(10000.0, ALPHA, num_experts=1, use_qk_norm=True, eod_token_id=4, pad_token_id=-1),
               files={"generation_config.json": json.dumps({"eos_token_id": [5, 6]})})
    yield Case("Hunyuan-0.5B-Pretrain", HunYuanDenseV1Config(**long, attention_bias=True, rope_parameters={
        "rope_type": "dynamic", "rope_theta": 10000.0, "alpha": r.choice([50.0, 1000.0, 12.5]), "factor": 1.0}), m,
        dtype="f16", mlx_adds=("rope_theta", "rope_scaling"))
    yield Case("hunyuan-plain", HunYuanDenseV1Config(**s), m, dtype="f32",
               mlx_adds=("rope_theta",))
