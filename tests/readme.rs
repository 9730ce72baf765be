//! The README shows what the program prints.

#[test]
fn the_readme_shows_the_first_table_of_the_committed_settlement_report() {
    let read = |path: &str| std::fs::read_to_string(path).expect("the repository's file");
    let report = read("reports/settlement.txt");
    let bottom = report.find("\n└").expect("a table has a last line") + 1;
    let end = bottom + report[bottom..].find('\n').expect("something follows");
    let block = format!("```text\n{}\n```", &report[..end]);
    assert!(
        block.lines().count() > 10 && read("README.md").contains(&block),
        "copy the first table of reports/settlement.txt into the README"
    );
}
