# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, VOCAB, Case
from mistral3 import alone as by_prefix
from transformers import LlavaConfig, LlavaForConditionalGeneration


def alone(state):
    """The language model by itself."""
    return {k.removeprefix("model.") if k.startswith("model.lm_head") else k: v
            for k, v in by_prefix({k.replace("model.vision_tower", "vision_tower").replace(
                "model.multi_modal_projector", "multi_modal_projector"): v for k, v in state.items()}).items()}


def published(**text):
    """As the first LLaVA was, with few keys on its language model; None takes one out."""
    def edit(c):
        t = c["text_config"]
        for k in ("rope_parameters", "tie_word_embeddings", "dtype", *(k for k in text if text[k] is None)):
            t.pop(k, None)
        t.update({k: v for k, v in text.items() if v is not None})
        c.update(torch_dtype=c.pop("dtype"), pad_token_id=0, ignore_index=-100)
        c.pop("tie_word_embeddings", None)
    return edit


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([96, 160]), num_hidden_layers=2,
             num_attention_heads=4, max_position_embeddings=256)
    same = dict(back=alone, mlx_back=alone)
    clip = dict(model_type="clip_vision_model", hidden_size=16, intermediate_size=24, num_hidden_layers=1,
                num_attention_heads=2, image_size=28, patch_size=14, projection_dim=16)
    yield Case("llava-1.5-7b-hf", LlavaConfig(
        text_config=dict(s, model_type="llama", rms_norm_eps=1e-5), vision_config=clip, image_token_index=VOCAB - 1),
               LlavaForConditionalGeneration, dtype="f16", tokenizer="spm",
               edit=published(_name_or_path="lmsys/vicuna-7b-v1.5", architectures=["LlamaForCausalLM"],
                              num_key_value_heads=None, hidden_act=None), **same)
    pixtral = dict(model_type="pixtral", hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
                   head_dim=16, patch_size=4, image_size=16)
    yield Case("pixtral-12b", LlavaConfig(
        text_config=dict(s, model_type="mistral", num_key_value_heads=r.choice([1, 2]), head_dim=r.choice([16, 32]),
                         sliding_window=None, bos_token_id=BOS, eos_token_id=EOS), vision_config=pixtral,
        vision_feature_layer=-1, vision_feature_select_strategy="full", image_token_index=10),
               LlavaForConditionalGeneration, edit=published(rope_theta=1000000000.0, is_composition=True), **same)
