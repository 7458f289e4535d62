/* SPDX-License-Identifier: Apache-2.0 */
/* facts.c: the tables behind facts.h. Variables that have a meaning and no reader yet say so. */
#include "cli/facts.h"

static const lb_exit_fact exits[] = {
    {0, "done"},
    {1, "the system failed: I/O error, disk full, out of memory"},
    {2, "wrong usage"},
    {3, "the input is malformed, not found or not supported"},
    {4, "a limit was hit: memory budget, disk space seen beforehand"},
    {5, "a comparison or verification found differences"},
    {130, "interrupted"},
};

static const lb_env_fact envs[] = {
    {"LBRX_CPU",
     "masks CPU features: ref, avx2, avxvnni, avx512, avx512vnni, avx512vbmi, neon, dotprod, i8mm",
     false},
    {"LBRX_TEST_METAL", "tests: a library that stands in for Metal", false},
    {"LBRX_LOG", "1: what is opened, planned and used, on stderr", false},
    {"LBRX_CACHE", "temporary files of models that run, and what ./do demo and ./do release fetch",
     false},
    {"HF_HUB_CACHE", "where hf://OWNER/NAME is looked for", false},
    {"HF_HOME", "the same, in its folder hub; and the file token of `hf auth login`", false},
    {"XDG_CACHE_HOME", "the same two, in its folders lbrx and huggingface/hub; else ~/.cache",
     false},
    {"HF_ENDPOINT", "the hub that models are fetched from: https://huggingface.co", false},
    {"HF_TOKEN", "for private and gated models; sent to the hub alone, never printed", true},
    {"NO_COLOR", "no bold and dim text in chat; there are no colours", false},
    {"TERM", "dumb: chat edits no lines", false},
    {"TMPDIR",
     "temporary files of --to none and of models that run; else beside the output, in the cache",
     false},
};

u32 lb_exit_count(void) {
    return (u32)LB_LEN(exits);
}

const lb_exit_fact *lb_exit_get(u32 i) {
    return &exits[i];
}

u32 lb_env_count(void) {
    return (u32)LB_LEN(envs);
}

const lb_env_fact *lb_env_get(u32 i) {
    return &envs[i];
}
