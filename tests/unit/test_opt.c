/* SPDX-License-Identifier: Apache-2.0 */
/* test_opt.c: the parser of command lines, the suggestions, and what is generated from the tables.
 */
#include "cli/opt.h"
#include "test.h"

typedef struct inner {
    u64 n;
    bool json;
} inner;

typedef struct opts {
    inner common;
    const char *out;
    u64 size;
    u32 to;
    bool force, sym;
    double temp;
    lb_opt_list rules;
} opts;

static const lb_opt inner_rows[] = {
    {.name = "threads",
     .short_name = 't',
     .kind = LB_OPT_INT,
     .arg = "N",
     .min = 1,
     .max = 64,
     .initial = "4",
     .help = "threads",
     .off = offsetof(inner, n)},
    {.name = "json", .kind = LB_OPT_FLAG, .help = "json", .off = offsetof(inner, json)},
};
static const lb_opt own_rows[] = {
    {.name = "output",
     .short_name = 'o',
     .kind = LB_OPT_PATH,
     .arg = "PATH",
     .help = "where to",
     .required = true,
     .off = offsetof(opts, out)},
    {.name = "max-shard-size",
     .kind = LB_OPT_SIZE,
     .arg = "SIZE",
     .initial = "5GB",
     .help = "bytes of a shard",
     .off = offsetof(opts, size)},
    {.name = "to",
     .kind = LB_OPT_ENUM,
     .arg = "hf|mlx|gguf",
     .initial = "mlx",
     .help = "format",
     .off = offsetof(opts, to)},
    {.name = "force",
     .short_name = 'f',
     .kind = LB_OPT_FLAG,
     .help = "force it's",
     .off = offsetof(opts, force)},
    {.name = "sym",
     .short_name = 's',
     .kind = LB_OPT_FLAG,
     .help = "sym",
     .off = offsetof(opts, sym)},
    {.name = "temp",
     .kind = LB_OPT_FLOAT,
     .arg = "T",
     .help = "words of a help text that is so long that its words are wrapped at the end",
     .off = offsetof(opts, temp)},
    {.name = "rule",
     .kind = LB_OPT_STR,
     .arg = "R",
     .repeatable = true,
     .help = "rules",
     .off = offsetof(opts, rules)},
    {.name = "outfile", .alias_of = "output"},
};
static const lb_command command = {
    .name = "try",
    .summary = "Tries.",
    .args = "MODEL",
    .examples = {{"one", "lbrx try a"}, {"two", "lbrx try b"}, {"three", "lbrx try c"}},
    .n_args_min = 1,
    .n_args_max = 2,
    .group = {LB_GROUP("Options", own_rows, 0),
              LB_GROUP("Common options", inner_rows, offsetof(opts, common))},
    .size_bytes = sizeof(opts),
};

#define ARGS_MAX 16

/* Splits at spaces; "_" stands for an empty argument. */
static lb_status parse(const char *line, lb_arena *a, lb_parsed *out, lb_err *err) {
    char *argv[ARGS_MAX], *copy = lb_arena_new(a, char, strlen(line) + 1);
    int argc = 0;
    memset(err, 0, sizeof *err);
    memcpy(copy, line, strlen(line) + 1);
    for (char *p = copy; *p && argc < ARGS_MAX; argc++) {
        size_t n = strcspn(p, " ");
        argv[argc] = p;
        p += n;
        if (*p)
            *p++ = 0;
        if (strcmp(argv[argc], "_") == 0)
            argv[argc][0] = 0;
    }
    return lb_opt_parse(&command, argv, argc, a, out, err);
}

static bool contains(const char *text, const char *part) {
    size_t pos;
    return lb_str_find(lb_str_c(text), lb_str_c(part), &pos);
}

LB_TEST(defaults_and_forms) {
    lb_arena a = {0};
    lb_parsed p;
    lb_err err = {0};
    CHECK_OK(parse("in -o out", &a, &p, &err));
    const opts *o = p.opts;
    CHECK_STR(lb_str_c(o->out), "out");
    CHECK_U64(o->size, 5000000000u);
    CHECK_U64(o->to, 1);
    CHECK_U64(o->common.n, 4);
    CHECK(!o->force && !o->sym && !o->common.json && p.n_args == 1 && !p.help);

    CHECK_OK(parse("-fs --max-shard-size=4GiB -oout -t7 --to gguf a --json b --temp -1.5", &a, &p,
                   &err));
    o = p.opts;
    CHECK_U64(o->size, 4 * LB_GIB);
    CHECK_U64(o->common.n, 7);
    CHECK_U64(o->to, 2);
    CHECK(o->force && o->sym && o->common.json && p.n_args == 2 && o->temp == -1.5);
    CHECK_STR(lb_str_c(p.args[1]), "b");

    CHECK_OK(parse("--outfile x --rule a --rule=b --rule -c -- -dash", &a, &p, &err));
    o = p.opts;
    CHECK_STR(lb_str_c(o->out), "x");
    CHECK_U64(o->rules.n, 3);
    CHECK_STR(lb_str_c(o->rules.item[2]), "-c");
    CHECK_STR(lb_str_c(p.args[0]), "-dash");

    CHECK_OK(parse("-o a -o b - ", &a, &p, &err)); /* the last wins; a single dash is an argument */
    o = p.opts;
    CHECK_STR(lb_str_c(o->out), "b");
    CHECK_STR(lb_str_c(p.args[0]), "-");
    lb_arena_deinit(&a);
}

LB_TEST(refusals_name_the_option) {
    static const struct {
        const char *line, *message;
    } bad[] = {
        {"in", "--output PATH is required"},
        {"-o out", "needs MODEL"},
        {"a b c -o x", "unexpected argument 'c'"},
        {"a -o x --max-shard-siz 3", "did you mean --max-shard-size?"},
        {"a -o x --tread 3", "did you mean --threads?"},
        {"a -o x --js", "unknown option '--js'"},
        {"a -o x --zzzzzz", "see 'lbrx try --help'"},
        {"a -o x -z", "unknown option '-z'"},
        {"a -o x --threads 65", "a whole number from 1 to 64"},
        {"a -o x --threads 0", "a whole number from 1 to 64"},
        {"a -o x --threads -3", "a whole number from 1 to 64"},
        {"a -o x --threads 18446744073709551616", "a whole number from 1 to 64"},
        {"a -o x --max-shard-size 5XB", "not a size"},
        {"a -o x --max-shard-size 99999999999TB", "not a size"},
        {"a -o x --to zip", "not one of hf|mlx|gguf"},
        {"a -o x --to GGUF", "did you mean gguf?"},
        {"a -o x --to safetensors", "did you mean hf?"},
        {"a -o x --split-max-size 3", "did you mean --max-shard-size?"},
        {"a b c", "an output is named with -o: -o c"},
        {"a -o x --temp nan", "not a number"},
        {"a -o x --temp 1e999", "not a number"},
        {"a -o x --force=1", "--force takes no value"},
        {"a -o", "-o needs a value: PATH"},
        {"a --output", "--output needs a value: PATH"},
        {"a -o _", "'' is not a path"},
    };
    for (u32 i = 0; i < LB_LEN(bad); i++) {
        lb_arena a = {0};
        lb_parsed p;
        lb_err err;
        lb_status st = parse(bad[i].line, &a, &p, &err);
        if (st != LB_E_USAGE || !contains(err.msg, bad[i].message))
            lb_test_fail(__FILE__, __LINE__, "'%s' gave '%s', expected '%s'", bad[i].line, err.msg,
                         bad[i].message);
        lb_arena_deinit(&a);
    }
}

LB_TEST(distances) {
    u32 d;
    CHECK_U64(lb_edit_distance("", ""), 0);
    CHECK_U64(lb_edit_distance("abc", ""), 3);
    CHECK_U64(lb_edit_distance("convert", "convert"), 0);
    CHECK_U64(lb_edit_distance("covnert", "convert"), 1); /* neighbours swapped */
    CHECK_U64(lb_edit_distance("inspct", "inspect"), 1);
    CHECK_U64(lb_edit_distance("kitten", "sitting"), 3);
    CHECK(lb_is_near("quant", "quantize", &d));
    CHECK(lb_is_near("inspekt", "inspect", &d));
    CHECK(!lb_is_near("x", "info", &d));
    CHECK(!lb_is_near("delete", "convert", &d));
    char longer[300];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    CHECK_U64(lb_edit_distance(longer, "b"), 63); /* words are cut, not overrun */
}

LB_TEST(help_reads_the_table) {
    lb_buf b = {0};
    lb_help_command(&b, &command);
    lb_buf_put_u8(&b, 0);
    CHECK(!b.oom);
    const char *t = (const char *)b.ptr;
    CHECK(contains(t, "Usage: lbrx try MODEL [OPTION]..."));
    CHECK(contains(t, "  -o, --output PATH           where to (required)"));
    CHECK(contains(t, "      --max-shard-size SIZE   bytes of a shard (default 5GB)"));
    CHECK(contains(t, "Common options:"));
    CHECK(!contains(t, "outfile"));
    CHECK(contains(t, " that its\n                              words are wrapped at the end\n"));
    for (const char *line = t; *line; line += strcspn(line, "\n") + 1)
        CHECK(strcspn(line, "\n") <= 80);
    lb_buf_deinit(&b);
}

LB_TEST(help_wins_over_errors) {
    lb_arena a = {0};
    lb_parsed p;
    lb_err err = {0};
    CHECK_OK(parse("--nonsense --help", &a, &p, &err));
    CHECK(p.help);
    CHECK_OK(parse("a -o x -- --help", &a, &p, &err));
    CHECK(!p.help);
    lb_arena_deinit(&a);
}

LB_TEST_MAIN("fast")
