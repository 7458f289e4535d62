/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_arch_config.c: configs, model cards, metadata and tensor names on any bytes.
 *
 * The first byte chooses: 'c' config.json, generation_config.json, README.md, label, separated by
 * 0xff; 'n' tensor names, a line each; 'm' GGUF metadata: lines "key=type:value". Checked: no
 * crash; a config whose metadata can be written gives metadata from which a config comes that reads
 * to the same parameters; a name that is found is found again under its name in another world. */
#include "arch/arch_internal.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static lb_str field(lb_str *rest, char sep) {
    const char *at = rest->len ? memchr(rest->ptr, sep, rest->len) : NULL;
    size_t n = at ? (size_t)(at - rest->ptr) : rest->len;
    lb_str f = lb_str_sub(*rest, 0, n);
    *rest = lb_str_sub(*rest, at ? n + 1 : n, rest->len);
    return f;
}

static void check_same(const lb_hparams *a, const lb_hparams *b) {
    LB_ASSERT(a->n_layers == b->n_layers && a->n_embd == b->n_embd && a->n_head == b->n_head &&
              a->n_head_kv == b->n_head_kv && a->n_ff == b->n_ff && a->head_dim == b->head_dim);
}

static void from_meta(const lb_gguf_meta *m, const float *freqs, u64 n, const lb_hparams *hp,
                      lb_arena *a) {
    lb_arch_seen seen = {.vocab_rows = 100};
    lb_arch_config_in in = {
        .meta = m, .seen = &seen, .rope_freqs = freqs, .n_rope_freqs = n, .dtype = LB_BF16};
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

static void config_texts(lb_str rest, lb_arena *a) {
    lb_str config = field(&rest, (char)0xff), gen = field(&rest, (char)0xff);
    lb_arch_meta_in in = {
        .readme = field(&rest, (char)0xff), .label = rest, .n_params = 7000000000};
    lb_json *c, *g = NULL;
    lb_buf b = {0};
    lb_err err = {0};
    const lb_arch *arch;
    lb_hparams hp;
    lb_arch_made_tensor *made = NULL;
    u32 n_made = 0;
    lb_gguf_meta m;
    lb_arch_config_to_hf(config, LB_F16, &b, NULL);
    if (lb_json_parse(config, "config.json", a, &c, NULL) != LB_OK) {
        lb_buf_deinit(&b);
        return;
    }
    if (c->type == LB_JOBJECT && !b.oom) {
        lb_json *again;
        LB_ASSERT(lb_json_parse(lb_buf_str(&b), "hf", a, &again, NULL) == LB_OK);
        LB_ASSERT(!lb_json_get(again, "quantization"));
    }
    lb_buf_reset(&b);
    lb_json_parse(gen, "generation_config.json", a, &g, NULL);
    lb_arch_config_to_mlx(config, g, NULL, &b, NULL);
    lb_buf_deinit(&b);
    if (lb_arch_from_config(c, &arch, &hp, &err) != LB_OK) {
        LB_ASSERT(err.msg[0]);
        return;
    }
    in.config = c;
    in.generation = g;
    lb_meta_init(&m, a);
    lb_status st = lb_arch_made(arch, c, a, &made, &n_made, &err);
    if (lb_arch_meta_from_config(arch, &in, &m, &err) == LB_OK && st == LB_OK && hp.n_layers < 1000)
        from_meta(&m, n_made ? made->values : NULL, n_made ? made->shape.dim[0] : 0, &hp, a);
    lb_meta_deinit(&m);
}

static void one_name(lb_str name, lb_arena *a) {
    const char *family;
    const lb_arch *arch;
    for (u32 i = 0; (arch = lb_arch_at(i, &family)) != NULL; i++)
        for (int w = LB_WORLD_HF; w <= LB_WORLD_GGUF; w++) {
            lb_arch_match m, n;
            if (!lb_arch_find(arch, (lb_world)w, name, &m))
                continue;
            for (int to = LB_WORLD_HF; to <= LB_WORLD_GGUF; to++) {
                lb_str t = lb_arch_tensor_name(m.row, (lb_world)to, &m, a);
                if (t.len == 0)
                    continue;
                LB_ASSERT(lb_arch_find(arch, (lb_world)to, t, &n));
                LB_ASSERT(n.row == m.row && n.layer == m.layer && n.suffix == m.suffix);
            }
        }
}

static void metadata(lb_str rest, lb_arena *a) {
    lb_gguf_meta m;
    lb_meta_init(&m, a);
    while (rest.len) {
        lb_str line = field(&rest, '\n'), key = field(&line, '='), type = field(&line, ':');
        lb_gguf_kv kv = {.key = key, .type = LB_GGUF_STR, .v.s = line};
        lb_json *number = NULL;
        i32 list[8] = {0};
        lb_json_parse(line, "number", a, &number, NULL);
        if (lb_str_eq_c(type, "u32")) {
            kv.type = LB_GGUF_U32;
            kv.v.u = 0;
            lb_json_as_u64(number, &kv.v.u);
            kv.v.u &= UINT32_MAX;
        } else if (lb_str_eq_c(type, "f32")) {
            kv.type = LB_GGUF_F32;
            kv.v.f = 0;
            lb_json_as_f64(number, &kv.v.f);
            kv.v.f = (double)(float)kv.v.f;
        } else if (lb_str_eq_c(type, "i32s")) {
            kv.type = LB_GGUF_ARRAY;
            kv.elem = LB_GGUF_I32;
            kv.v.array = list;
            for (; kv.n < LB_LEN(list) && line.len; kv.n++)
                list[kv.n] = (i32)field(&line, ',').len;
        }
        lb_meta_set(&m, &kv, NULL);
    }
    float freqs[32];
    for (size_t i = 0; i < LB_LEN(freqs); i++)
        freqs[i] = i < 10 ? 1.0f : i == 10 ? 2.5f : 8.0f;
    u64 n_layers = 0;
    lb_kv_as_u64(lb_meta_find(&m, "llama.block_count"), &n_layers);
    if (n_layers < 1000) {
        from_meta(&m, NULL, 0, NULL, a);
        from_meta(&m, freqs, LB_LEN(freqs), NULL, a);
    }
    lb_meta_deinit(&m);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    lb_arena a = {.max_bytes = 64 * LB_MIB};
    lb_str rest = {(const char *)data + 1, size ? size - 1 : 0};
    if (size == 0)
        return 0;
    if (data[0] == 'c')
        config_texts(rest, &a);
    else if (data[0] == 'm')
        metadata(rest, &a);
    else
        while (rest.len)
            one_name(field(&rest, '\n'), &a);
    lb_arena_deinit(&a);
    return 0;
}
