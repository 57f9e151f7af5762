"""The benchmark: methods on held-out references and designs, measured, with a report.

`settings` what is asked for · `sets` references, designs, prompts · `methods` configurations ·
`store` what is done already · `making` trains and embroiders one thing · `scoring` measures it ·
`work` goes through all of it · `statistics`, `summary`, `page` make the report.
"""
