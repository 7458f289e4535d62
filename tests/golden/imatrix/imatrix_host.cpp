// SPDX-License-Identifier: Apache-2.0
// imatrix_host.cpp: llama.cpp's own reader (tools/quantize) and writers (tools/imatrix) of importance matrices as a
// program; built by imatrix_peer.py from the sources of llama-cpp-python.
//
//   imatrix_host read FILE DUMP         what llama-quantize makes of FILE, as text (see imatrix_peer.py)
//   imatrix_host write FILE gguf|dat    a file of what stands on stdin: "CHUNKS TOKENS DATASET", then for each entry
//                                       "NAME N_VALUES N_COUNTS", values as hexadecimal floats, counts
#include "common.h"
#include "gguf.h"
#include "imatrix-loader.h"
#include "llama.h"
#include <algorithm>
#include <cctype>
#include <chrono>
#include <clocale>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <mutex>
#include <numeric>
#include <regex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>
#define main imatrix_main
#define private public // the collector's numbers are put in without a model
#include "tools/imatrix/imatrix.cpp"
#undef private
#include "tools/quantize/quantize.cpp"
#undef main

// What would come from the rest of llama.cpp, and is called.
struct common_log *common_log_main() {
    return nullptr;
}
int common_log_get_verbosity_thold() {
    return -1;
}
void common_log_add(struct common_log *, enum ggml_log_level, const char *, ...) {
}
size_t llama_max_devices(void) {
    return 1;
}

static int read_file(const char *path, const char *dump) {
    std::vector<std::string> datasets;
    std::unordered_map<std::string, std::vector<float>> data;
    int chunks = load_imatrix(path, datasets, data);
    std::map<std::string, std::vector<float>> sorted(data.begin(), data.end());
    FILE *f = fopen(dump, "w");
    fprintf(f, "chunks %d\n", chunks);
    for (const auto &d : datasets)
        fprintf(f, "dataset %s\n", d.c_str());
    for (const auto &[name, values] : sorted) {
        fprintf(f, "entry %s %zu", name.c_str(), values.size());
        for (float v : values) {
            uint32_t bits;
            memcpy(&bits, &v, sizeof bits);
            fprintf(f, " %x", bits);
        }
        fprintf(f, "\n");
    }
    return fclose(f) != 0;
}

static int write_file(const char *path, bool dat) {
    static IMatrixCollector c; // freed by nobody: parts of common_params are not linked
    std::string dataset, name;
    size_t n_values, n_counts;
    int chunks, tokens;
    std::cin >> chunks >> tokens >> dataset;
    c.m_last_chunk = chunks;
    c.m_params.n_ctx = tokens;
    c.m_params.n_parallel = 1;
    c.m_params.out_file = path;
    c.m_params.prompt_file = dataset;
    c.m_params.imat_dat = dat ? 1 : -1;
    while (std::cin >> name >> n_values >> n_counts) {
        Stats &s = c.m_stats[name];
        for (size_t i = 0; i < n_values; i++) {
            std::string v;
            std::cin >> v;
            s.values.push_back(strtof(v.c_str(), nullptr));
        }
        for (size_t i = 0; i < n_counts; i++) {
            int64_t v;
            std::cin >> v;
            s.counts.push_back(v);
        }
    }
    c.save_imatrix();
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    int code = strcmp(argv[1], "read") == 0 ? read_file(argv[2], argv[3])
                                            : write_file(argv[2], strcmp(argv[3], "dat") == 0);
    fflush(NULL);
    _Exit(code);
}
