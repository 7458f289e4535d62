/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_edit.c: keys of a terminal, whatever they are: the line editor's text and what it draws; the
 * same bytes as an answer on its way to the screen, and as one with thoughts.
 *
 * Checked: no crash, the text is UTF-8 without controls and within its bound, all that was thought
 * and said is in the answer. */
#include "cli/edit.h"
#include "cli/thought.h"
#include "cli/wrap.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static bool is_harmless(lb_str s, bool drawn) {
    for (size_t i = 0; i < s.len; i++) {
        u8 c = (u8)s.ptr[i];
        if (c < 0x20 && !strchr(drawn ? "\n\r\x1b\a" : "\n\t", c))
            return false;
    }
    return true;
}

static void edit(const u8 *data, size_t size) {
    static const char *const words[] = {"/help", "/regen", "/reset", NULL};
    lb_err err = {0};
    lb_edit *e;
    lb_buf out = {0};
    if (lb_edit_new(&e, &(lb_edit_opts){"> ", ". ", size & 1, words}, &err) != LB_OK)
        return;
    lb_edit_begin(e);
    for (size_t at = 0, used; at < size; at += used) {
        lb_edit_event event =
            lb_edit_keys(e, data + at, LB_MIN(size - at, (size_t)1 + data[at] % 16), &used);
        LB_ASSERT(used);
        LB_ASSERT(lb_str_is_utf8(lb_edit_text(e)) && is_harmless(lb_edit_text(e), false));
        if (event == LB_EDIT_CLEAR)
            lb_edit_resize(e, 1 + data[at] % 40, 1 + (u32)(size % 90));
        lb_buf_reset(&out);
        lb_edit_draw(e, &out);
        LB_ASSERT(is_harmless(lb_buf_str(&out), true));
        if (event == LB_EDIT_ENTER) {
            lb_edit_remember(e, lb_edit_text(e));
            lb_edit_leave(e, &out);
            lb_edit_begin(e);
        }
    }
    lb_buf_deinit(&out);
    lb_edit_free(&e);
}

static void show(const u8 *data, size_t size) {
    lb_err err = {0};
    lb_wrap w = {0};
    lb_thought t = {0};
    lb_buf out = {0};
    const lb_str text = {(const char *)data, size};
    const size_t piece = size ? 1 + data[0] % 9 : 1;
    lb_wrap_begin(&w, (u32)(size % 60), (u32)(size % 7));
    lb_thought_begin(&t, size % 2 ? LB_STR("<think>") : LB_STR_NONE);
    for (size_t at = 0; at < size; at += piece) {
        lb_wrap_put(&w, lb_str_sub(text, at, at + piece), &out);
        (void)lb_thought_put(&t, lb_str_sub(text, at, at + piece), false, NULL, NULL, &err);
    }
    (void)lb_thought_put(&t, LB_STR_NONE, true, NULL, NULL, &err);
    LB_ASSERT(lb_str_is_utf8(lb_buf_str(&out)) && is_harmless(lb_buf_str(&out), true));
    LB_ASSERT(t.said.len + t.thought.len <= size);
    LB_ASSERT(t.said.len == 0 || lb_str_ends(text, lb_buf_str(&t.said)));
    lb_wrap_deinit(&w);
    lb_thought_deinit(&t);
    lb_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    edit(data, size);
    show(data, size);
    return 0;
}
