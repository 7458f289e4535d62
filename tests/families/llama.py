# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, VOCAB, Case
from transformers import LlamaConfig, LlamaForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 96]), intermediate_size=r.choice([96, 160]),
             num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=r.choice([1, 2, 4]),
             bos_token_id=BOS, eos_token_id=EOS)
    yield Case("Llama-3.2-1B-Instruct", LlamaConfig(**s, max_position_embeddings=131072, rope_parameters={
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 500000.0,
        "original_max_position_embeddings": 8192}), LlamaForCausalLM, mlx_adds=("rope_theta", "rope_scaling"))
    yield Case("tied-biased", LlamaConfig(**s, tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
               LlamaForCausalLM, dtype="f16", tokenizer="spm", mlx_adds=("rope_theta", "rope_scaling"))
