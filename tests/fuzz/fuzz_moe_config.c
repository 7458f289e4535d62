/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_moe_config.c: the readers of mergekit-moe's files and of layershuffle's on any bytes.
 *
 * Checked: no crash; what is taken names models that there are; what is refused says so in one
 * line; a shuffle that is made is a merge file. */
#include "merge/moe_result.h"
#include "merge/shuffle.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void check_experts(const lb_moe_config *c, const lb_moe_expert *e, u32 n) {
    for (u32 i = 0; i < n; i++) {
        LB_ASSERT(e[i].model < c->refs.n_models && e[i].line > 0);
        LB_ASSERT(e[i].noise_scale - e[i].noise_scale == 0);
        LB_ASSERT(e[i].residual_scale - e[i].residual_scale == 0);
    }
}

static void check_kinds(const lb_moe_config *c, lb_arena *a) {
    static const char *const types[] = {"llama", "mistral", "qwen2", "qwen3", "gpt2"};
    lb_str *list = lb_arena_new(a, lb_str, (u64)c->refs.n_models + 1);
    for (u32 t = 0; list && t < LB_LEN(types); t++) {
        const char *note;
        lb_moe_kind kind;
        lb_err err = {0};
        lb_buf card = {0};
        for (u32 i = 0; i < c->refs.n_models; i++)
            list[i] = lb_str_c(types[t]);
        lb_status st = lb_moe_choose(c, list, a, &kind, &note, &err);
        LB_ASSERT(st == LB_OK ? kind < LB_MOE_KIND_COUNT : err.msg[0]);
        LB_ASSERT(st != LB_OK || t < 4);
        if (st == LB_OK && lb_moe_card(LB_STR("x"), c, kind, LB_STR("text"), &card, &err) == LB_OK)
            LB_ASSERT(card.len > 0);
        lb_buf_deinit(&card);
    }
}

static void read_moe(lb_str text) {
    lb_arena a = {.max_bytes = 64 * LB_MIB};
    lb_err err = {0};
    lb_moe_config c;
    lb_status st = lb_moe_config_parse(text, "t", &a, &c, &err);
    LB_ASSERT(st == LB_OK || err.msg[0]);
    (void)lb_moe_is_config(text);
    if (st == LB_OK) {
        LB_ASSERT(c.refs.n_models > 0 && c.refs.base == 0 && c.experts_per_token > 0);
        check_experts(&c, c.experts, c.n_experts);
        check_experts(&c, c.shared, c.n_shared);
        err = (lb_err){0};
        for (u32 same = 0; same < 2; same++)
            if (lb_moe_config_check(&c, same, &err) != LB_OK)
                LB_ASSERT(err.msg[0]);
        check_kinds(&c, &a);
    }
    lb_arena_deinit(&a);
}

static void read_shuffle(lb_str text) {
    lb_arena a = {.max_bytes = 64 * LB_MIB};
    lb_err err = {0};
    lb_shuffle s;
    lb_buf yaml = {0};
    lb_merge_file f;
    lb_status st = lb_shuffle_parse(text, "t", &a, &s, &err);
    LB_ASSERT(st == LB_OK || err.msg[0]);
    for (u32 i = 0; st == LB_OK && i < s.n_models; i++)
        s.models[i].n_layers = 3 + i % 2;
    if (st == LB_OK && lb_shuffle_make(&s, s.seed, &yaml, &err) == LB_OK && yaml.len < 100000) {
        st = lb_merge_file_parse(lb_buf_str(&yaml), "made", 0, &a, &f, &err);
        LB_ASSERT(st == LB_OK || err.code == LB_E_NOMEM);
    }
    lb_buf_deinit(&yaml);
    lb_arena_deinit(&a);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    lb_str text = {(const char *)data, size};
    read_moe(text);
    read_shuffle(text);
    return 0;
}
