/* SPDX-License-Identifier: Apache-2.0 */
/* test_arch_names.c: tensor names in three worlds, type policy, completeness, 100,000 look-ups; the
 * tables themselves; allocations that fail anywhere in arch. */
#include "arch/family_rows.h"
#include "arch_util.h"
#include "test.h"
#include <time.h>

static lb_arena arena;
static lb_err err;
static const lb_hparams any = {.n_layers = LB_NO_INDEX}; /* no layer is behind the last */

static const lb_arch *family(const char *name) {
    const char *f;
    const lb_arch *a;
    for (u32 i = 0; (a = lb_arch_at(i, &f)) != NULL; i++)
        if (strcmp(f, name) == 0)
            return a;
    return NULL;
}

static bool maps(const char *fam, lb_world from, const char *name, lb_world to, const char *want) {
    lb_arch_match m;
    const lb_arch *a = family(fam);
    if (!lb_arch_find(a, &any, from, lb_str_c(name), &m)) {
        if (want)
            lb_test_fail(__FILE__, __LINE__, "%s: '%s' is not found", fam, name);
        return want == NULL;
    }
    lb_str got = lb_arch_tensor_name(m.row, to, &m, &arena);
    if (!want || !lb_str_eq_c(got, want))
        lb_test_fail(__FILE__, __LINE__, "%s: '%s' is '%.*s', expected '%s'", fam, name,
                     LB_FMT(got), want ? want : "none");
    return want && lb_str_eq_c(got, want);
}

#define HF LB_WORLD_HF
#define MLX LB_WORLD_MLX
#define GGUF LB_WORLD_GGUF

LB_TEST(worlds) {
    CHECK(maps("llama", HF, "model.layers.0.self_attn.q_proj.weight", GGUF, "blk.0.attn_q.weight"));
    CHECK(maps("llama", HF, "model.layers.79.mlp.down_proj.bias", GGUF, "blk.79.ffn_down.bias"));
    CHECK(maps("llama", GGUF, "output_norm.weight", HF, "model.norm.weight"));
    CHECK(maps("llama", GGUF, "blk.4294967294.attn_v.weight", HF,
               "model.layers.4294967294.self_attn.v_proj.weight"));
    CHECK(maps("llama", GGUF, "rope_freqs.weight", HF, ""));
    CHECK(maps("llama", HF, "model.layers.3.self_attn.rotary_emb.inv_freq", GGUF, ""));
    CHECK(
        maps("mistral", MLX, "model.layers.1.mlp.gate_proj.weight", GGUF, "blk.1.ffn_gate.weight"));
    CHECK(maps("qwen2", HF, "model.layers.1.self_attn.k_proj.bias", MLX,
               "model.layers.1.self_attn.k_proj.bias"));
    CHECK(maps("qwen3", HF, "model.layers.1.self_attn.k_norm.weight", GGUF,
               "blk.1.attn_k_norm.weight"));
    CHECK(maps("gemma3", HF, "model.layers.1.post_attention_layernorm.weight", GGUF,
               "blk.1.post_attention_norm.weight"));
    CHECK(maps("llama", HF, "model.layers.1.post_attention_layernorm.weight", GGUF,
               "blk.1.ffn_norm.weight"));
    CHECK(maps("gemma3", GGUF, "blk.1.ffn_norm.weight", HF,
               "model.layers.1.pre_feedforward_layernorm.weight"));
}

/* Experts and routers as transformers 5 holds them in memory and saves them when told so: the same
 * tensors of GGUF and MLX; written back as they are published. */
LB_TEST(in_memory) {
    static const struct {
        const char *family, *held, *gguf, *mlx, *published;
    } rows[] = {
        {"mixtral", "mlp.gate.weight", "ffn_gate_inp.weight", "block_sparse_moe.gate.weight",
         "block_sparse_moe.gate.weight"},
        {"mixtral", "mlp.experts.down_proj", "ffn_down_exps.weight",
         "block_sparse_moe.switch_mlp.down_proj.weight", "block_sparse_moe.experts.{e}.w2.weight"},
        {"phimoe", "mlp.router.weight", "ffn_gate_inp.weight", "block_sparse_moe.gate.weight",
         "block_sparse_moe.gate.weight"},
        {"phimoe", "mlp.experts.gate_up_proj", "ffn_gate_exps.weight",
         "block_sparse_moe.switch_mlp.gate_proj.weight", "block_sparse_moe.experts.{e}.w1.weight"},
        {"granitemoe", "block_sparse_moe.router.weight", "ffn_gate_inp.weight",
         "block_sparse_moe.router.layer.weight", "block_sparse_moe.router.layer.weight"},
        {"granitemoe", "block_sparse_moe.experts.down_proj", "ffn_down_exps.weight",
         "block_sparse_moe.switch_mlp.down_proj.weight", "block_sparse_moe.output_linear.weight"},
        {"minimax_m2", "mlp.gate.weight", "ffn_gate_inp.weight", "block_sparse_moe.gate.weight",
         "block_sparse_moe.gate.weight"},
        {"minimax_m2", "mlp.e_score_correction_bias", "exp_probs_b.bias",
         "block_sparse_moe.e_score_correction_bias", "block_sparse_moe.e_score_correction_bias"},
        {"minimax_m2", "mlp.experts.gate_up_proj", "ffn_gate_exps.weight",
         "block_sparse_moe.switch_mlp.gate_proj.weight", "block_sparse_moe.experts.{e}.w1.weight"},
        {"ernie4_5_moe", "mlp.gate.moe_statics.e_score_correction_bias", "exp_probs_b.bias", NULL,
         "mlp.moe_statics.e_score_correction_bias"},
    };
    for (size_t i = 0; i < LB_LEN(rows); i++) {
        lb_str held = lb_arena_printf(&arena, "model.layers.1.%s", rows[i].held);
        lb_str gguf = lb_arena_printf(&arena, "blk.1.%s", rows[i].gguf);
        lb_str mlx =
            rows[i].mlx ? lb_arena_printf(&arena, "model.layers.1.%s", rows[i].mlx) : LB_STR("");
        lb_str hf = lb_arena_printf(&arena, "model.layers.1.%s", rows[i].published);
        lb_arch_match m;
        CHECK(maps(rows[i].family, HF, held.ptr, GGUF, gguf.ptr));
        CHECK(maps(rows[i].family, HF, held.ptr, MLX, mlx.ptr));
        CHECK(lb_arch_find(family(rows[i].family), &any, GGUF, gguf, &m));
        m.expert = 3; /* a name of one matrix of the stack */
        lb_str back = lb_arch_tensor_name(m.row, HF, &m, &arena);
        char want[128];
        const char *hole = strstr(hf.ptr, "{e}");
        snprintf(want, sizeof want, "%.*s%s%s", hole ? (int)(hole - hf.ptr) : (int)hf.len, hf.ptr,
                 hole ? "3" : "", hole ? hole + 3 : "");
        CHECK_STR(back, want);
    }
    lb_arena_deinit(&arena);
}

/* llama.cpp's files of Mixtral from before April 2024 */
LB_TEST(experts_apart_in_gguf) {
    CHECK(maps("mixtral", GGUF, "blk.1.ffn_gate.7.weight", HF,
               "model.layers.1.block_sparse_moe.experts.7.w1.weight"));
    CHECK(maps("mixtral", GGUF, "blk.1.ffn_down.0.weight", HF,
               "model.layers.1.block_sparse_moe.experts.0.w2.weight"));
    CHECK(maps("mixtral", HF, "model.layers.1.block_sparse_moe.experts.0.w3.weight", GGUF,
               "blk.1.ffn_up_exps.weight"));
}

/* GGUF has no such layers; which, the config says, and the refusal is about that. */
LB_TEST(layers_without_experts) {
    static const char *const families[] = {"qwen2_moe", "qwen3_moe", "qwen3_next"};
    for (size_t i = 0; i < LB_LEN(families); i++)
        CHECK(maps(families[i], HF, "model.layers.0.mlp.down_proj.weight", MLX,
                   "model.layers.0.mlp.down_proj.weight"));
}

/* Checkpoints of the inner model lack a prefix that is the family's own. */
LB_TEST(own_prefix) {
    CHECK(maps("gpt2", HF, "transformer.h.3.attn.c_attn.weight", GGUF, "blk.3.attn_qkv.weight"));
    CHECK(maps("gpt2", HF, "h.3.attn.c_attn.bias", GGUF, "blk.3.attn_qkv.bias"));
    CHECK(maps("gpt2", HF, "wpe.weight", MLX, "model.wpe.weight"));
    CHECK(maps("gpt2", HF, "model.wpe.weight", GGUF, NULL));
    CHECK(maps("gpt2", MLX, "model.h.3.ln_1.bias", HF, "transformer.h.3.ln_1.bias"));
    CHECK(maps("gpt2", GGUF, "position_embd.weight", HF, "transformer.wpe.weight"));
    CHECK(maps("gpt2", HF, "h.3.attn.bias", GGUF, ""));
    CHECK(maps("gpt2", HF, "h.3.attn.masked_bias", MLX, ""));
}

LB_TEST(prefixes) {
    CHECK(maps("llama", HF, "layers.2.input_layernorm.weight", GGUF, "blk.2.attn_norm.weight"));
    CHECK(maps("llama", HF, "norm.weight", GGUF, "output_norm.weight"));
    CHECK(maps("llama", HF, "language_model.model.layers.2.mlp.up_proj.weight", GGUF,
               "blk.2.ffn_up.weight"));
    CHECK(maps("llama", HF, "model.text_model.layers.2.mlp.up_proj.weight", GGUF,
               "blk.2.ffn_up.weight"));
    CHECK(maps("qwen2", HF, "language_model.lm_head.weight", GGUF, "output.weight"));
    CHECK(maps("llama", GGUF, "layers.2.input_layernorm.weight", GGUF, NULL));
}

LB_TEST(unknown_names) {
    static const char *const names[] = {
        "",
        ".",
        "..",
        "model",
        "model.layers",
        "model.layers.x.mlp.up_proj.weight",
        "model.layers.01.mlp.up_proj.weight",
        "model.layers.4294967295.mlp.up_proj.weight",
        "model.layers.99999999999.mlp.up_proj.weight",
        "model.layers.-1.mlp.up_proj.weight",
        "model.layers.1.mlp.up_proj",
        "model.layers.1.mlp.up_proj.weight.weight",
        "model.layers.1.mlp.up_proj.scales",
        "model.layers.1.mlp.experts.3.up_proj.weight",
        "model.layers.1.self_attn.q_norm.weight",
        "model.layers.{b}.mlp.up_proj.weight",
        "model.norm.bias",
        "model.model.norm.weight",
        "vision_tower.x.weight",
        ".weight",
    };
    lb_arch_match m;
    char longest[400];
    for (size_t i = 0; i < LB_LEN(names); i++)
        CHECK(!lb_arch_find(family("llama"), &any, HF, lb_str_c(names[i]), &m));
    memset(longest, 'a', sizeof longest);
    for (size_t n = 240; n <= sizeof longest; n++)
        CHECK(!lb_arch_find(family("llama"), &any, HF, (lb_str){longest, n}, &m));
    memset(longest, '.', sizeof longest);
    for (size_t n = 0; n <= sizeof longest; n++)
        CHECK(!lb_arch_find(family("llama"), &any, HF, (lb_str){longest, n}, &m));
    for (size_t n = 0; n + 1 < sizeof longest; n += 2) { /* numbers only: both grow */
        memcpy(longest + n, "0.", 2);
        CHECK(!lb_arch_find(family("llama"), &any, HF, (lb_str){longest, n + 2}, &m));
        CHECK(!lb_arch_find(family("llama"), &any, HF, (lb_str){longest, n + 1}, &m));
    }
}

static bool is_f32(const char *fam, const char *gguf, u32 rank) {
    lb_arch_match m;
    return lb_arch_find(family(fam), &any, GGUF, lb_str_c(gguf), &m) &&
           lb_arch_gguf_is_f32(m.row, m.suffix, rank);
}

LB_TEST(type_policy) {
    CHECK(is_f32("llama", "blk.0.attn_norm.weight", 1));
    CHECK(is_f32("gemma3", "blk.0.post_ffw_norm.weight", 2)); /* by its name */
    CHECK(is_f32("llama", "blk.0.attn_q.bias", 1));
    CHECK(is_f32("llama", "blk.0.attn_q.bias", 2)); /* by its suffix */
    CHECK(is_f32("llama", "blk.0.attn_q.weight", 1));
    CHECK(!is_f32("llama", "blk.0.attn_q.weight", 2));
    CHECK(!is_f32("llama", "token_embd.weight", 2));
    lb_arch_tensor router = {.gguf = LB_N("blk.{b}.ffn_gate_inp"), .flags = LB_ROW_GGUF_F32};
    CHECK(lb_arch_gguf_is_f32(&router, LB_SUFFIX_WEIGHT, 2));
    lb_arch_tensor raw = {.gguf = LB_N("blk.{b}.ssm_a")};
    CHECK(lb_arch_gguf_is_f32(&raw, LB_SUFFIX_NONE, 2));
    raw.gguf = LB_STR("blk.{b}.attn_sinks.weight");
    CHECK(!lb_arch_gguf_is_f32(&raw, LB_SUFFIX_NONE, 2));
    raw.gguf = LB_STR("blk.{b}.x_norm.weight");
    CHECK(lb_arch_gguf_is_f32(&raw, LB_SUFFIX_NONE, 2));
}

LB_TEST(dropped) {
    lb_arch_match m;
    lb_hparams tied = {.tied = true}, untied = {0};
    CHECK(lb_arch_find(family("llama"), &any, HF, LB_STR("lm_head.weight"), &m));
    CHECK(lb_arch_is_dropped(m.row, MLX, &tied) && !lb_arch_is_dropped(m.row, MLX, &untied));
    CHECK(!lb_arch_is_dropped(m.row, GGUF, &tied)); /* the reference writes it */
    CHECK(lb_arch_find(family("gemma3"), &any, HF, LB_STR("lm_head.weight"), &m));
    CHECK(!lb_arch_is_dropped(m.row, MLX, &tied)); /* mlx-lm unties by it */
    lb_hparams shared = {.n_layers = 3, .n_kv_shared = 1};
    for (u32 i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "model.layers.%u.self_attn.k_proj.weight", i);
        CHECK(lb_arch_find(family("gemma4"), &any, HF, lb_str_c(name), &m));
        CHECK(lb_arch_is_left_out(&m, MLX, &shared) == (i == 2));
        CHECK(!lb_arch_is_left_out(&m, GGUF, &shared) && !lb_arch_is_left_out(&m, HF, &shared));
    }
    CHECK(lb_arch_find(family("gemma4"), &any, HF, LB_STR("model.layers.2.self_attn.q_proj.weight"),
                       &m));
    CHECK(!lb_arch_is_left_out(&m, MLX, &shared));
    CHECK(lb_arch_find(family("llama"), &any, HF, LB_STR("model.rotary_emb.inv_freq"), &m));
    CHECK(lb_arch_is_dropped(m.row, MLX, &untied) && lb_arch_is_dropped(m.row, GGUF, &untied));
    CHECK(lb_arch_find(family("llama"), &any, GGUF, LB_STR("rope_freqs.weight"), &m));
    CHECK(lb_arch_is_dropped(m.row, HF, &untied) && !lb_arch_is_dropped(m.row, GGUF, &untied));
}

LB_TEST(completeness) {
    const lb_arch *a = family("llama");
    lb_hparams hp = {.n_layers = 3, .tied = true};
    lb_arch_seen seen = {0};
    u32 n_rows;
    const lb_arch_tensor *rows = lb_arch_rows(a, &n_rows);
    lb_shape shape = {.rank = 2, .dim = {100, 8}};
    CHECK(n_rows > 10);
    for (u32 layer = 0; layer < 3; layer++)
        for (u32 i = 0; i < n_rows; i++) {
            size_t at;
            lb_arch_match m = {
                .row = &rows[i], .n_rows = 1, .layer = layer, .suffix = LB_SUFFIX_WEIGHT};
            bool per_layer = lb_str_find(rows[i].hf, LB_STR("{b}"), &at);
            bool skip = (!per_layer && layer) || (layer == 2 && rows[i].role == LB_ROLE_FFN_DOWN) ||
                        rows[i].role == LB_ROLE_OUTPUT;
            if (!skip)
                lb_arch_seen_add(&seen, &m, &shape);
        }
    CHECK_U64(seen.vocab_rows, 100);
    CHECK_U64(lb_arch_seen_check(a, &hp, &seen, HF, &err), LB_E_FORMAT);
    CHECK(strstr(err.msg, "2 of 3 tensors 'model.layers.{b}.mlp.down_proj.weight'"));
    lb_arch_match m;
    CHECK(lb_arch_find(a, &any, HF, LB_STR("model.layers.2.mlp.down_proj.weight"), &m));
    lb_arch_seen_add(&seen, &m, &shape);
    CHECK_OK(lb_arch_seen_check(a, &hp, &seen, HF, &err));
    hp.tied = false;
    CHECK_U64(lb_arch_seen_check(a, &hp, &seen, HF, &err), LB_E_FORMAT);
    CHECK(strstr(err.msg, "lm_head.weight"));
    hp.headless = true;
    CHECK_OK(lb_arch_seen_check(a, &hp, &seen, HF, &err));
}

/* Several GGUF tensors from one HF tensor: the rows are found together. */
LB_TEST(fused_rows) {
    static const lb_arch_tensor rows[] = {
        {.role = LB_ROLE_ATTN_Q,
         .hf = LB_N("h.{b}.qkv"),
         .gguf = LB_N("blk.{b}.attn_q"),
         .suffixes = LB_SUFFIX_WEIGHT,
         .part = {[HF] = LB_PART_Q}},
        {.role = LB_ROLE_ATTN_K,
         .hf = LB_N("h.{b}.qkv"),
         .gguf = LB_N("blk.{b}.attn_k"),
         .suffixes = LB_SUFFIX_WEIGHT,
         .part = {[HF] = LB_PART_K}},
        {.role = LB_ROLE_ATTN_Q, /* another form of GGUF */
         .hf = LB_N("h.{b}.qkv"),
         .gguf = LB_N("blk.{b}.attn_qk"),
         .suffixes = LB_SUFFIX_WEIGHT,
         .part = {[HF] = LB_PART_Q, [GGUF] = LB_PART_Q}},
        LB_ROW3(LB_ROLE_FFN_UP, LB_N("h.{b}.experts.{e}.up"), LB_N("blk.{b}.ffn_up_exps"),
                LB_N_NONE, LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_ROW_EXPERT),
        LB_ROW3(LB_ROLE_FFN_DOWN, LB_N("h.{b}.A_log"), LB_N("blk.{b}.ssm_a"), LB_N_NONE, LB_RL_NONE,
                LB_SUFFIX_NONE, 0),
    };
    lb_arch a = {.rows = rows, .n_rows = LB_LEN(rows)};
    lb_arch_match m;
    CHECK(lb_arch_find(&a, &any, HF, LB_STR("h.7.qkv.weight"), &m));
    CHECK(m.n_rows == 2 && m.row == rows && m.layer == 7 && m.expert == LB_NO_INDEX);
    CHECK_STR(lb_arch_tensor_name(m.row + 1, GGUF, &m, &arena), "blk.7.attn_k.weight");
    CHECK(lb_arch_find(&a, &any, GGUF, LB_STR("blk.7.attn_k.weight"), &m) && m.n_rows == 1);
    CHECK(lb_arch_find(&a, &any, HF, LB_STR("h.7.experts.511.up.weight"), &m));
    CHECK(m.layer == 7 && m.expert == 511);
    CHECK_STR(lb_arch_tensor_name(m.row, GGUF, &m, &arena), "blk.7.ffn_up_exps.weight");
    CHECK_STR(lb_arch_tensor_name(m.row, HF, &m, &arena), "h.7.experts.511.up.weight");
    CHECK(lb_arch_find(&a, &any, HF, LB_STR("h.0.A_log"), &m) && m.suffix == LB_SUFFIX_NONE);
    CHECK_STR(lb_arch_tensor_name(m.row, GGUF, &m, &arena), "blk.0.ssm_a");
    CHECK(!lb_arch_find(&a, &any, HF, LB_STR("h.0.A_log.weight"), &m));
}

/* Layers of multi-token prediction: numbered on, or from 0, or not at all; a name that they share
 * with other layers is theirs from n_layers on. */
LB_TEST(mtp_rows) {
    static const lb_arch_tensor rows[] = {
        LB_ROW(LB_ROLE_ATTN_Q, "model.layers.{b}.q", "blk.{b}.attn_q", LB_RL_NONE, LB_SUFFIX_WEIGHT,
               0),
        LB_ROW(LB_ROLE_ATTN_Q, "mtp.layers.{m}.q", "blk.{b}.attn_q", LB_RL_NONE, LB_SUFFIX_WEIGHT,
               LB_ROW_MTP),
        LB_ROW3(LB_ROLE_FFN_UP_EXPS, LB_N("mtp.layers.{m}.experts.{e}.up"),
                LB_N("blk.{b}.ffn_up_exps"), LB_N("mtp.layers.{m}.up"), LB_RL_NONE,
                LB_SUFFIX_WEIGHT, LB_ROW_MTP | LB_ROW_EXPERT),
        LB_ROW(LB_ROLE_MTP, "mtp.fc", "blk.{b}.nextn.eh_proj", LB_RL_NONE, LB_SUFFIX_WEIGHT,
               LB_ROW_MTP),
        LB_ROW(LB_ROLE_MTP, "model.layers.{b}.enorm", "blk.{b}.nextn.enorm", LB_RL_NONE,
               LB_SUFFIX_WEIGHT, LB_ROW_MTP),
    };
    static const struct {
        lb_str hf, gguf;
        u32 mtp;
    } same[] = {
        {LB_N("model.layers.7.q.weight"), LB_N("blk.7.attn_q.weight"), LB_NO_INDEX},
        {LB_N("mtp.layers.0.q.weight"), LB_N("blk.8.attn_q.weight"), 0},
        {LB_N("mtp.layers.2.q.weight"), LB_N("blk.10.attn_q.weight"), 2},
        {LB_N("mtp.fc.weight"), LB_N("blk.8.nextn.eh_proj.weight"), 0},
        {LB_N("model.layers.9.enorm.weight"), LB_N("blk.9.nextn.enorm.weight"), 1},
    };
    lb_arch a = {.rows = rows, .n_rows = LB_LEN(rows)};
    lb_hparams hp = {.n_layers = 8};
    lb_arch_match m;
    lb_arch_seen seen = {0};
    lb_shape shape = {.rank = 2, .dim = {4, 4}};
    for (size_t i = 0; i < LB_LEN(same); i++)
        for (int back = 0; back < 2; back++) {
            lb_str from = back ? same[i].gguf : same[i].hf, to = back ? same[i].hf : same[i].gguf;
            CHECK(lb_arch_find(&a, &hp, back ? GGUF : HF, from, &m));
            CHECK_U64(m.mtp, same[i].mtp);
            CHECK_U64(m.extra, same[i].mtp == LB_NO_INDEX ? LB_EXTRA_NONE : LB_EXTRA_MTP);
            CHECK(lb_str_eq(lb_arch_tensor_name(m.row, back ? HF : GGUF, &m, &arena), to));
            lb_arch_seen_add(&seen, &m, &shape);
        }
    CHECK(seen.in_extra[LB_EXTRA_MTP] == 8 && seen.in_extra[LB_EXTRA_NONE] == 2);
    CHECK(seen.n_mtp == 3 && seen.count[LB_ROLE_ATTN_Q] == 2 && seen.count[LB_ROLE_MTP] == 0);
    CHECK(lb_arch_find(&a, &hp, HF, LB_STR("mtp.layers.1.experts.30.up.weight"), &m));
    CHECK(m.layer == 9 && m.expert == 30);
    CHECK_STR(lb_arch_tensor_name(m.row, MLX, &m, &arena), "mtp.layers.1.up.weight");
    /* of no layer of theirs */
    CHECK(!lb_arch_find(&a, &hp, HF, LB_STR("model.layers.7.enorm.weight"), &m));
    CHECK(!lb_arch_find(&a, &hp, GGUF, LB_STR("blk.7.nextn.eh_proj.weight"), &m));
    CHECK(!lb_arch_find(&a, &hp, HF, LB_STR("mtp.layers.4294967294.q.weight"), &m));
    CHECK(!lb_arch_find(&a, &hp, HF, LB_STR("mtp.layers.x.q.weight"), &m));
}

/* Every row of every table is found under its own name in each world, and nowhere twice. */
LB_TEST(tables) {
    const lb_arch *a;
    for (u32 f = 0; (a = lb_arch_at(f, NULL)) != NULL; f++) {
        u32 n;
        const lb_arch_tensor *rows = lb_arch_rows(a, &n);
        for (u32 i = 0; i < n; i++)
            for (int w = HF; w <= GGUF; w++) {
                u8 suffix = rows[i].suffixes & LB_SUFFIX_NONE ? LB_SUFFIX_NONE : LB_SUFFIX_WEIGHT;
                lb_arch_match m = {.row = &rows[i], .layer = 12, .suffix = suffix}, got;
                lb_hparams hp = {.n_layers = rows[i].flags & LB_ROW_MTP ? 12 : 13};
                lb_str name = lb_arch_tensor_name(&rows[i], (lb_world)w, &m, &arena);
                if (name.len == 0)
                    continue;
                CHECK(lb_arch_find(a, &hp, (lb_world)w, name, &got));
                bool found = got.row <= &rows[i] && &rows[i] < got.row + got.n_rows;
                bool other_form = false;
                for (u32 k = 0; k < got.n_rows; k++)
                    other_form |= got.row + k < &rows[i] && got.row[k].role == rows[i].role &&
                                  (rows[i].flags & LB_ROW_OPTIONAL);
                CHECK(found || other_form);
                CHECK(w != GGUF || name.len < 64); /* ggml's limit */
            }
        lb_json *v;
        if (a->defaults)
            CHECK_OK(lb_json_parse(lb_str_c(a->defaults), "defaults", &arena, &v, &err));
        CHECK_OK(lb_json_parse(lb_str_c(a->constants), "constants", &arena, &v, &err));
        if (a->mlx) /* else mlx-lm has no class */
            CHECK_OK(lb_json_parse(lb_str_c(a->mlx), "mlx", &arena, &v, &err));
    }
}

/* Every row of a matrix is one part's. */
LB_TEST(parts) {
    static const lb_part sets[][LB_PARTS_OF_MATRIX + 1] = {
        {LB_PART_Q, LB_PART_K, LB_PART_V},
        {LB_PART_GROUP_Q, LB_PART_GROUP_K, LB_PART_GROUP_V},
        {LB_PART_FIRST, LB_PART_SECOND},
        {LB_PART_EVEN, LB_PART_ODD},
        {LB_PART_SSM_Q, LB_PART_SSM_K, LB_PART_SSM_V},
        {LB_PART_NET_Q, LB_PART_NET_K, LB_PART_NET_V, LB_PART_NET_Z},
        {LB_PART_ALL}};
    lb_hparams hp = {.n_head = 6, .n_head_kv = 2, .head_dim = 4};
    enum { ROWS = (6 + 2 + 2) * 4 };
    for (size_t k = 0; k < LB_LEN(sets); k++) {
        u8 owner[ROWS] = {0};
        lb_part_rows r;
        hp.ssm_groups = 2;
        hp.ssm_state = 4;
        hp.ssm_inner = sets[k][0] == LB_PART_NET_Q ? 12 : 24;
        for (size_t i = 0; i == 0 || sets[k][i] != LB_PART_ALL; i++) {
            CHECK_OK(lb_arch_part_rows(sets[k][i], &hp, ROWS, &r, &err));
            CHECK(lb_arch_part_is_woven(sets[k][i]) == (r.run != r.step));
            for (u64 row = 0; row < r.n; row++) {
                u64 at = r.from + row / r.run * r.step + row % r.run;
                CHECK(at < ROWS);
                owner[at]++;
            }
        }
        for (size_t i = 0; i < ROWS; i++)
            CHECK(owner[i] == 1);
        CHECK(sets[k][0] == LB_PART_ALL ||
              lb_arch_part_rows(sets[k][0], &hp, ROWS + 1, &r, &err) == LB_E_FORMAT);
    }
    lb_part_rows q; /* two groups: 3 heads of q, k, v */
    CHECK_OK(lb_arch_part_rows(LB_PART_GROUP_Q, &hp, ROWS, &q, &err));
    CHECK(q.from == 0 && q.run == 12 && q.step == 20 && q.n == 24);
    CHECK_OK(lb_arch_part_rows(LB_PART_GROUP_V, &hp, ROWS, &q, &err));
    CHECK(q.from == 16 && q.run == 4 && q.step == 20 && q.n == 8);
    hp.ssm_inner = 12; /* a group: 4 rows of q, 4 of k, 6 of v, 6 of z */
    CHECK_OK(lb_arch_part_rows(LB_PART_NET_V, &hp, ROWS, &q, &err));
    CHECK(q.from == 8 && q.run == 6 && q.step == 20 && q.n == 12);
    hp.ssm_inner = 24;
    CHECK_OK(lb_arch_part_rows(LB_PART_SSM_V, &hp, ROWS, &q, &err));
    CHECK(q.from == 16 && q.n == 24);
    hp.ssm_state = UINT64_MAX / 2;
    CHECK(lb_arch_part_rows(LB_PART_SSM_Q, &hp, ROWS, &q, &err) == LB_E_FORMAT);
    CHECK(lb_arch_part_rows(LB_PART_NET_Z, &hp, ROWS, &q, &err) == LB_E_FORMAT);
    hp.window_dim = 3; /* heads of another size in layers with a window */
    CHECK_OK(lb_arch_part_rows(LB_PART_V, &hp, 3 * ROWS / 4, &q, &err));
    CHECK(q.from == 24 && q.n == 6);
    CHECK_OK(lb_arch_part_rows(LB_PART_V, &hp, ROWS, &q, &err));
    CHECK(q.from == 32 && q.n == 8);
}

LB_TEST(many_names) {
    enum { N = 100000 };
    lb_str *names = lb_arena_new(&arena, lb_str, N);
    static const char *const parts[] = {"self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj",
                                        "mlp.down_proj", "post_attention_layernorm"};
    for (u32 i = 0; i < N; i++)
        names[i] = lb_arena_printf(&arena, "model.layers.%u.%s.weight", i / 5, parts[i % 5]);
    u64 begin = lb_test_cpu_us();
    u64 n = 0;
    lb_arch_match m;
    for (u32 i = 0; i < N; i++)
        n += lb_arch_find(family("llama"), &any, HF, names[i], &m) && m.layer == i / 5;
    CHECK_U64(n, N);
    double s = (double)(lb_test_cpu_us() - begin) * 1e-6;
    if (s > 2) /* 30 ms here; a limit for the slowest sanitizer build */
        lb_test_fail(__FILE__, __LINE__, "100,000 look-ups took %.2f s", s);
}

/* ---- memory ---- */

static lb_status whole_trip(const char *text, const char *readme) {
    lb_arena a = {0};
    lb_json *c = NULL;
    lb_gguf_meta m;
    const lb_arch *arch;
    lb_hparams hp;
    lb_arch_made_tensor *made;
    lb_arch_config_out out;
    lb_arch_seen seen = {.vocab_rows = 5};
    lb_buf b = {0};
    u32 n;
    lb_status st;
    lb_meta_init(&m, &a);
    LB_TRY_DONE(st, lb_json_parse(lb_str_c(text), "t", &a, &c, &err));
    LB_TRY_DONE(st, lb_arch_from_config(c, &arch, &hp, &err));
    lb_arch_meta_in in = {.config = c,
                          .generation = c,
                          .readme = lb_str_c(readme),
                          .label = LB_STR("Some-Model-7B-v1"),
                          .n_params = 7};
    LB_TRY_DONE(st, lb_arch_meta_from_config(arch, &in, &m, &err));
    LB_TRY_DONE(st, lb_arch_made(arch, c, &a, &made, &n, &err));
    lb_arch_config_in back = {.meta = &m,
                              .seen = &seen,
                              .rope_freqs = n ? made->values : NULL,
                              .n_rope_freqs = n ? made->shape.dim[0] : 0,
                              .dtype = LB_F16};
    LB_TRY_DONE(st, lb_arch_config_from_meta(&back, &a, &out, &err));
    LB_TRY_DONE(st, lb_arch_config_to_mlx(lb_str_c(text), c, c, &b, &err));
    LB_TRY_DONE(st, lb_arch_config_to_hf(lb_str_c(text), LB_F16, 0, &b, &err));
done:
    lb_buf_deinit(&b);
    lb_meta_deinit(&m);
    lb_arena_deinit(&a);
    return st;
}

LB_TEST(failing_memory) {
    static const char *const configs[] = {
        "{\"model_type\": \"llama\", \"rope_parameters\": {\"rope_type\": \"llama3\", "
        "\"rope_theta\": 500000.0, \"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\":"
        " 4.0, \"original_max_position_embeddings\": 8192}, \"top_k\": 5, \"_name_or_path\": "
        "\"a/b-7B\"}",
        "{\"model_type\": \"gemma3_text\", \"rope_scaling\": {\"type\": \"linear\", \"factor\": "
        "2.0}}",
        "{\"architectures\": [\"IQuestCoderForCausalLM\"], \"hidden_size\": 64, "
        "\"intermediate_size\": 9, \"num_attention_heads\": 4, \"num_hidden_layers\": 1, "
        "\"vocab_size\": 9, \"rope_theta\": 3.0, \"rms_norm_eps\": 1e-5}"};
    static const char readme[] = "---\ntags: [a, b]\nlicense: [x, y]\nbase_model: a/b-7B\n---\n";
    for (size_t i = 0; i < LB_LEN(configs); i++) {
        u64 before = lb_mem_count();
        CHECK_OK(whole_trip(configs[i], readme));
        u64 n = lb_mem_count() - before;
        CHECK(n > 10 && n < 2000);
        for (u64 k = 1; k <= n; k++) {
            err = (lb_err){0};
            lb_mem_fail_at(k);
            lb_status st = whole_trip(configs[i], readme);
            lb_mem_fail_at(0);
            if (st != LB_E_NOMEM)
                lb_test_fail(__FILE__, __LINE__, "config %zu, allocation %llu: %s (%s)", i,
                             (unsigned long long)k, lb_status_text(st), err.msg);
        }
    }
}

LB_TEST_MAIN("fast")
