//! The allocator in the place it is made for: everything in this program comes from it, its own lists too.

use phiz_kernels::Recycler;

#[global_allocator]
static ALLOCATOR: Recycler = Recycler::new();

/// More blocks than the lists hold are given back at once, and cleared ones held at once.
#[test]
fn thousands_of_blocks_come_and_go() {
    for _ in 0..2 {
        let blocks: Vec<Vec<u8>> = (0..3000).map(|i| vec![i as u8 | 1; 1 << 16]).collect();
        for (i, block) in blocks.iter().enumerate() {
            assert!(block.iter().all(|&b| b == i as u8 | 1));
        }
        drop(blocks);
        // Never written to: no page of them is there.
        let cleared: Vec<Vec<u8>> = (0..2100).map(|_| vec![0; 1 << 20]).collect();
        for block in cleared.iter().rev().take(60) {
            assert!(block.iter().all(|&b| b == 0));
        }
    }
}
