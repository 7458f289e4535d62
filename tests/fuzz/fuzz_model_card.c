/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_model_card.c: README.md, the folder's name and config.json -> general.*, separated by 0xff.
 *
 * Checked: no crash; every string written is UTF-8 where the card is, and what cannot be read is
 * said. */
#include "arch/arch_internal.h"
#include "fuzz/parts.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    lb_arena a = {.max_bytes = 64 * LB_MIB};
    lb_str rest = {(const char *)data, size};
    lb_str readme = parts_field(&rest, (char)0xff), label = parts_field(&rest, (char)0xff), text;
    lb_err err = {0}, card_err = {0};
    lb_json *config = NULL;
    lb_gguf_meta m;
    if (lb_json_parse(rest, "config.json", &a, &config, NULL) != LB_OK)
        (void)lb_json_parse(LB_STR("{}"), "config.json", &a, &config, NULL);
    lb_arch_meta_in in = {.config = config,
                          .readme = readme,
                          .label = label,
                          .n_params = 7000000000,
                          .card_err = &card_err};
    lb_meta_init(&m, &a);
    if (config && lb_arch_meta_general(&in, &a, &m, &err) != LB_OK)
        LB_ASSERT(err.msg[0]);
    bool utf8 = lb_str_is_utf8(readme) && lb_str_is_utf8(label) && lb_str_is_utf8(rest);
    for (u64 i = 0; i < m.n && utf8; i++)
        if (lb_kv_as_str(&m.kv[i], &text))
            LB_ASSERT(lb_str_is_utf8(text));
    LB_ASSERT(card_err.code == LB_OK || card_err.msg[0]);
    lb_meta_deinit(&m);
    lb_arena_deinit(&a);
    return 0;
}
