/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_arch_config.c: config.json and generation_config.json on any bytes.
 *
 * The first byte chooses: 't' the texts for HF and MLX folders; else parameters and metadata. The
 * two files are separated by 0xff. Checked: no crash; a config whose metadata can be written gives
 * metadata from which a config comes that reads to the same parameters; a config for an HF folder
 * is JSON without quantization, and so is one of the language model alone. */
#include "arch/arch_internal.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

/* A model all of whose layers have experts may have no size of others: its class then has one. */
static void check_same(const lb_hparams *a, const lb_hparams *b) {
    LB_ASSERT(a->n_layers == b->n_layers && a->n_embd == b->n_embd && a->n_head == b->n_head &&
              a->n_head_kv == b->n_head_kv && a->head_dim == b->head_dim);
    LB_ASSERT(a->n_ff == b->n_ff || (!a->n_ff && a->n_expert));
}

static void from_meta(const lb_gguf_meta *m, const lb_arch_made_tensor *made, u32 n,
                      const lb_hparams *hp, lb_arena *a) {
    lb_arch_seen seen = {.vocab_rows = 100};
    lb_arch_config_in in = {.meta = m, .seen = &seen, .dtype = LB_BF16};
    if (n == 1) {
        in.rope_freqs = made->values;
        in.n_rope_freqs = made->shape.dim[0];
    } else if (n == 2) {
        in.rope_long = made[0].values;
        in.rope_short = made[1].values;
        in.n_rope_long = made->shape.dim[0];
    }
    lb_arch_config_out out;
    lb_json *c;
    const lb_arch *arch;
    lb_hparams back;
    lb_err err = {0};
    if (lb_arch_config_from_meta(&in, a, &out, &err) != LB_OK) {
        LB_ASSERT(err.msg[0]);
        return;
    }
    if (out.original)
        return;
    LB_ASSERT(lb_json_parse(out.config, "config.json", a, &c, &err) == LB_OK);
    LB_ASSERT(lb_arch_from_config(c, &arch, &back, &err) == LB_OK);
    if (hp)
        check_same(hp, &back);
}

static void texts(lb_str config, const lb_json *c, const lb_json *generation, lb_arena *a) {
    lb_buf b = {0};
    lb_json *again;
    lb_arch_config_to_hf(config, LB_F16, 0, &b, NULL);
    if (c && c->type == LB_JOBJECT && !b.oom) {
        LB_ASSERT(lb_json_parse(lb_buf_str(&b), "hf", a, &again, NULL) == LB_OK);
        LB_ASSERT(!lb_json_get(again, "quantization"));
    }
    lb_buf_reset(&b);
    lb_arch_config_to_mlx(config, generation, NULL, &b, NULL);
    lb_buf_reset(&b);
    if (lb_arch_config_text(config, &b, NULL) == LB_OK && c && c->type == LB_JOBJECT)
        LB_ASSERT(lb_json_parse(lb_buf_str(&b), "text", a, &again, NULL) == LB_OK);
    const lb_arch *arch;
    lb_hparams hp;
    lb_str tied;
    if (c && lb_arch_from_config(c, &arch, &hp, NULL) == LB_OK && hp.may_tie) {
        hp.tied = true;
        LB_ASSERT(lb_arch_config_tied(config, &hp, a, &tied, NULL) == LB_OK);
        LB_ASSERT(lb_json_parse(tied, "tied", a, &again, NULL) == LB_OK);
        LB_ASSERT(lb_arch_from_config(again, &arch, &hp, NULL) == LB_OK && hp.tied);
    }
    lb_buf_deinit(&b);
}

static void parameters(const lb_json *c, const lb_json *generation, lb_arena *a) {
    lb_arch_meta_in in = {.config = c, .generation = generation, .n_params = 7000000000};
    lb_err err = {0};
    const lb_arch *arch;
    lb_hparams hp;
    lb_arch_made_tensor *made = NULL;
    u32 n_made = 0;
    lb_gguf_meta m;
    if (lb_arch_from_config(c, &arch, &hp, &err) != LB_OK) {
        LB_ASSERT(err.msg[0]);
        return;
    }
    lb_meta_init(&m, a);
    lb_status st = lb_arch_made(arch, c, a, &made, &n_made, &err);
    if (lb_arch_meta_from_config(arch, &in, &m, &err) == LB_OK && st == LB_OK && hp.n_layers < 100)
        from_meta(&m, made, n_made, &hp, a);
    lb_meta_deinit(&m);
    lb_meta_init(&m, a);
    if (lb_arch_meta_run(arch, c, &m, &err) != LB_OK)
        LB_ASSERT(err.msg[0]);
    lb_meta_deinit(&m);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    lb_arena a = {.max_bytes = 64 * LB_MIB};
    const u8 *end = size > 1 ? memchr(data, 0xff, size) : NULL;
    lb_str text = {(const char *)data, size};
    lb_str config = lb_str_sub(text, 1, end ? (size_t)(end - data) : size);
    lb_str generation = end ? lb_str_sub(text, (size_t)(end - data) + 1, size) : LB_STR_NONE;
    lb_json *c = NULL, *g = NULL;
    if (size == 0)
        return 0;
    lb_json_parse(config, "config.json", &a, &c, NULL);
    lb_json_parse(generation, "generation_config.json", &a, &g, NULL);
    if (data[0] == 't')
        texts(config, c, g, &a);
    else if (c)
        parameters(c, g, &a);
    lb_arena_deinit(&a);
    return 0;
}
