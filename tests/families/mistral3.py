# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, PAD, VOCAB, Case
from transformers import Mistral3Config, Mistral3ForConditionalGeneration


def alone(state):
    """The language model by itself."""
    return {k.replace("language_model.", ""): v for k, v in state.items()
            if not k.startswith(("vision_tower.", "multi_modal_projector."))}


def unsaid(c):
    """Nothing on ties, as published."""
    del c["tie_word_embeddings"], c["text_config"]["tie_word_embeddings"]


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([96, 160]), num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=r.choice([1, 2, 4]), head_dim=r.choice([16, 32]),
             max_position_embeddings=256, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD)
    vision = dict(model_type="pixtral", hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
                  head_dim=16, patch_size=4, image_size=16)
    rope = {"rope_type": "yarn", "type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "mscale": 1.0,
            "mscale_all_dim": 1.0, "original_max_position_embeddings": 16, "beta_fast": 32.0, "beta_slow": 1.0,
            "llama_4_scaling_beta": r.choice([0.1, 0.25])}
    same = dict(back=alone, mlx_back=alone)
    yield Case("Mistral-Small-3.1-24B-Instruct-2503", Mistral3Config(
        text_config=dict(s, model_type="mistral", sliding_window=None), vision_config=vision, tie_word_embeddings=False),
               Mistral3ForConditionalGeneration, edit=unsaid, **same)
    yield Case("Ministral-3-3B-Instruct-2512", Mistral3Config(
        text_config=dict(s, model_type="ministral3", rope_parameters=rope, tie_word_embeddings=True),
        vision_config=vision), Mistral3ForConditionalGeneration, dtype="f16", **same)
    yield Case("tied-by-absence", Mistral3Config(
        text_config=dict(s, model_type="ministral3", rope_parameters=rope), vision_config=vision),
               Mistral3ForConditionalGeneration, mlx="mlx-lm goes by the inner config, which says that they are not tied",
               **same)
