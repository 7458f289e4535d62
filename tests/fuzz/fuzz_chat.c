/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_chat.c: a chat template and a request (parts t and r), as `lbrx template` and a server take
 * them.
 *
 * Checked: no crash, no leak, the limits hold, an error is one line. */
#include "parts.h"
#include "text/chat.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    const i64 now = 1770091506000789;
    const lb_template_opts o = {.limits = {.steps = 300000,
                                           .output_bytes = 256 * LB_KIB,
                                           .memory_bytes = 16 * LB_MIB,
                                           .depth = 300},
                                .now_us = &now};
    lb_arena a = {.max_bytes = 64 * LB_MIB};
    lb_json *request;
    lb_chat *chat = NULL;
    lb_chat_input in;
    lb_buf out = {0};
    lb_err err = {0};
    parts p;
    parts_split(&p, data, size);
    lb_status st = lb_chat_from_text(&chat, part(&p, 't'), "t", &err);
    if (st == LB_OK)
        st = lb_json_parse(part(&p, 'r'), "request", &a, &request, &err);
    if (st == LB_OK)
        st = lb_chat_input_from_json(request, &a, &in, &err);
    if (st == LB_OK)
        st = lb_chat_render(chat, &in, &o, &out, &err);
    LB_ASSERT(out.len <= 256 * LB_KIB);
    if (st != LB_OK)
        LB_ASSERT(err.code == st && err.msg[0] && !strchr(err.msg, '\n') && out.len == 0);
    lb_chat_close(&chat);
    lb_buf_deinit(&out);
    lb_arena_deinit(&a);
    return 0;
}
