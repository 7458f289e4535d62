/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_cli.c: a command line, one word a line, for a command with an option of every kind; each
 * word as a size too.
 *
 * Checked: no crash; a refusal has a message; what is accepted is in its bounds; the text of a size
 * is read as no less than the size. */
#include "cli/opt.h"
#include "io/size.h"
#include <math.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

typedef struct values {
    bool flag, quiet;
    const char *str, *path;
    u64 size_bytes, threads;
    double weight;
    u32 to;
    lb_opt_list list;
} values;

#define OFF(field) .off = offsetof(values, field)
static const lb_opt opts[] = {
    {.name = "flag", .short_name = 'f', .kind = LB_OPT_FLAG, OFF(flag)},
    {.name = "quiet", .short_name = 'q', .kind = LB_OPT_FLAG, OFF(quiet)},
    {.name = "str", .short_name = 's', .kind = LB_OPT_STR, .arg = "S", .initial = "x", OFF(str)},
    {.name = "out", .short_name = 'o', .kind = LB_OPT_PATH, .arg = "PATH", OFF(path)},
    {.name = "memory", .kind = LB_OPT_SIZE, .arg = "SIZE", .initial = "1GiB", OFF(size_bytes)},
    {.name = "threads",
     .kind = LB_OPT_INT,
     .arg = "N",
     .min = 1,
     .max = 64,
     .initial = "2",
     OFF(threads)},
    {.name = "weight", .kind = LB_OPT_FLOAT, .arg = "W", OFF(weight)},
    {.name = "to", .kind = LB_OPT_ENUM, .arg = "hf|mlx|gguf|none", OFF(to)},
    {.name = "set", .kind = LB_OPT_STR, .arg = "K=V", .repeatable = true, OFF(list)},
    {.name = "target", .kind = LB_OPT_PATH, .alias_of = "out", .hidden = true},
};

static const lb_command command = {.name = "fuzz",
                                   .summary = "A command.",
                                   .args = "A B",
                                   .n_args_min = 0,
                                   .n_args_max = 3,
                                   .group = {LB_GROUP("Options", opts, 0)},
                                   .size_bytes = sizeof(values)};

static void check_size(lb_str word) {
    u64 bytes, again;
    char text[LB_SIZE_TEXT];
    if (!lb_size_parse(word, &bytes))
        return;
    (void)lb_size_text(bytes, text);
    (void)lb_size_text_up(bytes, text);
    if (lb_size_parse(lb_str_c(text), &again)) /* not above 2^64 */
        LB_ASSERT(again >= bytes);
}

static void check(const lb_parsed *p) {
    const values *v = p->opts;
    if (p->help)
        return;
    LB_ASSERT(p->n_args <= 3 && v->str && v->to < 4 && isfinite(v->weight));
    LB_ASSERT(v->threads >= 1 && v->threads <= 64);
    for (u32 i = 0; i < v->list.n; i++)
        LB_ASSERT(v->list.item[i]);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    lb_arena arena = {.max_bytes = 16 * LB_MIB};
    char *argv[64];
    int argc = 0;
    lb_parsed parsed;
    lb_err err = {0};
    lb_str text = lb_arena_str(&arena, (lb_str){(const char *)data, size});
    for (char *at = (char *)text.ptr, *end = at + text.len; at < end && argc < 63;) {
        char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop ? stop : end;
        *stop = 0;
        check_size(lb_str_c(at));
        argv[argc++] = at;
        at = stop + 1;
    }
    argv[argc] = NULL;
    if (lb_opt_parse(&command, argv, argc, &arena, &parsed, &err) == LB_OK)
        check(&parsed);
    else
        LB_ASSERT(err.msg[0]);
    lb_arena_deinit(&arena);
    return 0;
}
