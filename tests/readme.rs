//! The README shows what the program prints.

#[test]
fn the_readme_shows_the_committed_settlement_report() {
    let read = |path: &str| std::fs::read_to_string(path).expect("the repository's file");
    let report = read("reports/settlement.txt");
    let block = format!("```text\n{}\n```", report.trim_end());
    assert!(
        read("README.md").contains(&block),
        "copy reports/settlement.txt into the README"
    );
}
