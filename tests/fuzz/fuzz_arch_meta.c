/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_arch_meta.c: GGUF metadata (parts_meta of parts.h) -> config.json. A line "rope_freqs"
 * gives the file that tensor, "rope_factors" those of longrope.
 *
 * Checked: no crash; what is made is JSON that the reader of configs takes. */
#include "arch/arch_internal.h"
#include "fuzz/parts.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void from_meta(const lb_gguf_meta *m, const float *freqs, u64 n, lb_arena *a) {
    lb_arch_seen seen = {.vocab_rows = 100};
    lb_arch_config_in in = {.meta = m, .seen = &seen, .dtype = LB_BF16};
    if (lb_meta_find(m, "rope_freqs")) {
        in.rope_freqs = freqs;
        in.n_rope_freqs = n;
    }
    if (lb_meta_find(m, "rope_factors")) {
        in.rope_long = in.rope_short = freqs;
        in.n_rope_long = n / 2;
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
    LB_ASSERT(back.n_layers && back.n_head && back.head_dim && back.n_embd);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    lb_arena arena = {.max_bytes = 64 * LB_MIB}, *a = &arena;
    float freqs[32];
    for (size_t i = 0; i < LB_LEN(freqs); i++)
        freqs[i] = i < 10 ? 1.0f : i == 10 ? 2.5f : 8.0f;
    lb_gguf_meta m;
    lb_meta_init(&m, a);
    parts_meta((lb_str){(const char *)data, size}, &m, a);
    u64 n_layers, most = 0; /* each makes an entry of layer_types */
    for (u64 i = 0; i < m.n; i++)
        if (lb_str_ends(m.kv[i].key, LB_STR(".block_count")) && lb_kv_as_u64(&m.kv[i], &n_layers))
            most = LB_MAX(most, n_layers);
    if (most < 100)
        from_meta(&m, freqs, LB_LEN(freqs), a);
    lb_meta_deinit(&m);
    lb_arena_deinit(&arena);
    return 0;
}
