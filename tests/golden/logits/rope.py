# SPDX-License-Identifier: Apache-2.0
"""rope.py: what configs say of rope and GGUF has no key for, which counts where a folder is run. As a file of
tests/families, for make_logits.py alone."""
from kit import BOS, EOS, VOCAB, Case
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

AT_MOST = 4  # cases


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=1, bos_token_id=BOS, eos_token_id=EOS)
    yarn = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}

    def case(label, config, model, rope, **kw):
        return Case(label, config(**s, rope_parameters=rope, **kw), model, gguf="no key", mlx="not read")
    yield case("yarn-attention-factor", LlamaConfig, LlamaForCausalLM, {**yarn, "attention_factor": 1.5})
    yield case("yarn-mscale", Qwen2Config, Qwen2ForCausalLM, {**yarn, "mscale": 0.7, "mscale_all_dim": 1.2})
    yield case("yarn-truncate", LlamaConfig, LlamaForCausalLM, {**yarn, "truncate": False, "beta_fast": 16.0})
    # the text is longer than what it was trained for
    yield case("dynamic", LlamaConfig, LlamaForCausalLM, {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0},
               max_position_embeddings=24)
