# SPDX-License-Identifier: Apache-2.0
from kit import Case
from transformers import Gemma3Config, Gemma3ForCausalLM, Gemma3ForConditionalGeneration, Gemma3TextConfig

VOCAB = 303  # entries of the tokenizer's vocabulary and of added_tokens: rows beyond them are cut off
FULL = "mlx-lm looks for a layer of full attention"


def alone(state):
    """The language model among the parts of a class, as its own class has it."""
    return {k.replace("language_model.", ""): v for k, v in state.items()
            if not k.removeprefix("model.").startswith(("vision_tower.", "multi_modal_projector."))}


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([96, 160]), num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=r.choice([1, 2]), head_dim=r.choice([16, 32]),
             max_position_embeddings=512, sliding_window=r.choice([16, 64]))
    s["query_pre_attn_scalar"] = s["head_dim"]
    vision = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=28,
                  patch_size=14, vision_use_head=False)
    scaled = {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
              "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    yield Case("gemma-3-1b-it", Gemma3TextConfig(**dict(s, num_hidden_layers=6)), Gemma3ForCausalLM)

    def beside(c):  # mlx-lm takes the vocabulary's size from there
        c["vocab_size"] = VOCAB
    yield Case("gemma-3-4b-it", Gemma3Config(text_config=dict(s, rope_parameters=scaled), vision_config=vision,
                                             mm_tokens_per_image=4),
               Gemma3ForConditionalGeneration, edit=beside, back=alone, mlx_back=alone,
               mlx_adds=("text_config.rope_scaling",), mlx_logits=FULL)

    def old(c):  # as the first checkpoints have it
        t = dict(s, model_type="gemma3_text", rope_scaling={"factor": 8.0, "rope_type": "linear"})
        c["text_config"] = t
        c["torch_dtype"] = c.pop("dtype")
        c.update(vocab_size=VOCAB, eos_token_id=[1, 106])
        c.pop("tie_word_embeddings")
    yield Case("gemma-3-12b-pt", Gemma3Config(text_config=dict(s, rope_parameters=scaled), vision_config=vision,
                                              mm_tokens_per_image=4),
               Gemma3ForConditionalGeneration, dtype="f32", edit=old, back=alone, mlx_back=alone,
               mlx_logits=FULL)
