// c += a b for matrices of floats, TILE x TILE results a thread, all of them in registers at once.
//
//     nvcc -ptx -lineinfo -arch=sm_90a -DTILE=8 tile_product.cu -o tile_product_8.ptx
//
// Written for benchmarks/record_front_ends.py: 8 x 8 results fit a thread's registers, 16 x 16 are one more than it has.
#ifndef TILE
#define TILE 8
#endif

extern "C" __global__ void __launch_bounds__(256) tile_product(const float *a, const float *b, float *c, int n) {
    const int row = (blockIdx.y * 16 + threadIdx.x / 16) * TILE;
    const int column = (blockIdx.x * 16 + threadIdx.x % 16) * TILE;
    float sums[TILE][TILE] = {};
    for (int k = 0; k < n; ++k) {
        float left[TILE], above[TILE];
#pragma unroll
        for (int i = 0; i < TILE; ++i) {
            left[i] = a[(row + i) * n + k];
            above[i] = b[k * n + column + i];
        }
#pragma unroll
        for (int i = 0; i < TILE; ++i)
#pragma unroll
            for (int j = 0; j < TILE; ++j)
                sums[i][j] += left[i] * above[j];
    }
#pragma unroll
    for (int i = 0; i < TILE; ++i)
#pragma unroll
        for (int j = 0; j < TILE; ++j)
            c[(row + i) * n + column + j] += sums[i][j];
}
