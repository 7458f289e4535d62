/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_arch_meta.c: GGUF metadata -> config.json. Lines "key=type:value"; types str, u32, f32,
 * i32s. A line "rope_freqs" gives the file that tensor.
 *
 * Checked: no crash; what is made is JSON that the reader of configs takes. */
#include "arch/arch_internal.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static lb_str field(lb_str *rest, char sep) {
    const char *at = rest->len ? memchr(rest->ptr, sep, rest->len) : NULL;
    size_t n = at ? (size_t)(at - rest->ptr) : rest->len;
    lb_str f = lb_str_sub(*rest, 0, n);
    *rest = lb_str_sub(*rest, at ? n + 1 : n, rest->len);
    return f;
}

static void from_meta(const lb_gguf_meta *m, const float *freqs, u64 n, lb_arena *a) {
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
    LB_ASSERT(back.n_layers && back.n_head && back.head_dim && back.n_embd);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    lb_arena arena = {.max_bytes = 64 * LB_MIB}, *a = &arena;
    lb_str rest = {(const char *)data, size};
    float freqs[32];
    for (size_t i = 0; i < LB_LEN(freqs); i++)
        freqs[i] = i < 10 ? 1.0f : i == 10 ? 2.5f : 8.0f;
    u64 n_freqs = 0;
    lb_gguf_meta m;
    lb_meta_init(&m, a);
    while (rest.len) {
        lb_str line = field(&rest, '\n'), key = field(&line, '='), type = field(&line, ':');
        lb_gguf_kv kv = {.key = key, .type = LB_GGUF_STR, .v.s = line};
        lb_json *number = NULL;
        i32 list[8] = {0};
        if (lb_str_eq_c(key, "rope_freqs")) {
            n_freqs = LB_LEN(freqs);
            continue;
        }
        if (!lb_str_eq_c(type, "str"))
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
    u64 n_layers, most = 0; /* each makes an entry of layer_types */
    for (u64 i = 0; i < m.n; i++)
        if (lb_str_ends(m.kv[i].key, LB_STR(".block_count")) && lb_kv_as_u64(&m.kv[i], &n_layers))
            most = LB_MAX(most, n_layers);
    if (most < 100)
        from_meta(&m, n_freqs ? freqs : NULL, n_freqs, a);
    lb_meta_deinit(&m);
    lb_arena_deinit(&arena);
    return 0;
}
