/* SPDX-License-Identifier: Apache-2.0 */
/* encode.c: ids of texts, for tests/peers/peer_encode.py.
 *
 * usage: encode MODEL [--no-special]. First a line with the text of bos_token, as JSON; then for
 * each line of standard input, a JSON string, a JSON array of ids, or {"error": MESSAGE}. */
#include "io/json.h"
#include "ops/open.h"
#include "text/encode.h"
#include <stdio.h>
#include <stdlib.h>

static lb_err err;

static int fail(void) {
    fprintf(stderr, "encode: %s\n", err.msg);
    return 2;
}

static void answer(const lb_encoder *e, char *line, bool special) {
    lb_arena a = {0};
    lb_buf ids = {0}, out = {0};
    lb_json *v;
    lb_status st = lb_json_parse(lb_str_c(line), "line", &a, &v, &err);
    if (st == LB_OK)
        st = lb_encoder_encode(e, v->text, special, &ids, &err);
    const u32 *id = (const u32 *)(const void *)ids.ptr;
    if (st != LB_OK) {
        lb_buf_put_c(&out, "{\"error\": ");
        lb_json_write_str(&out, lb_str_c(err.msg), false);
        lb_buf_put_c(&out, "}");
    } else {
        for (u64 i = 0; i < ids.len / 4; i++)
            lb_buf_printf(&out, "%s%u", i ? "," : "[", id[i]);
        lb_buf_put_c(&out, ids.len ? "]" : "[]");
    }
    printf("%.*s\n", LB_FMT(lb_buf_str(&out)));
    lb_buf_deinit(&ids);
    lb_buf_deinit(&out);
    lb_arena_deinit(&a);
}

int main(int argc, char **argv) {
    lb_source *s = NULL;
    lb_encoder *e = NULL;
    lb_buf out = {0};
    char *line = NULL;
    size_t cap = 0;
    bool special = argc < 3;
    if (argc < 2 || lb_open(&s, argv[1], &err) != LB_OK || lb_encoder_open(&e, s, &err) != LB_OK)
        return fail();
    lb_json_write_str(&out, lb_encoder_special(e, "bos_token"), false);
    printf("%.*s\n", LB_FMT(lb_buf_str(&out)));
    while (getline(&line, &cap, stdin) > 0)
        answer(e, line, special);
    free(line);
    lb_buf_deinit(&out);
    lb_encoder_close(&e);
    lb_source_close(&s);
    return 0;
}
